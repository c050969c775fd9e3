"""Load over HTTP: connections in a closed loop, each a keep-alive one, and what each request took.

The client does next to nothing for an answer, so that it is not what is measured: the requests
are bytes that are made once, and of an answer only its length and status are read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

from asgiref.sync import sync_to_async

_END_OF_HEADERS = b"\r\n\r\n"
_LENGTH = b"content-length:"
_LAST_CHUNK = b"\r\n0\r\n\r\n"


@dataclass
class Load:
    """What the requests of all connections took, in seconds."""

    first_byte: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)


def get(path: str) -> bytes:
    """Returns a GET as bytes."""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


def post(path: str, body: bytes, headers: dict[str, str]) -> bytes:
    """Returns a POST of JSON as bytes."""
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + _END_OF_HEADERS + body


class _Connection(asyncio.Protocol):
    def __init__(
        self, request: bytes, left: Iterator[int], load: Load, good: bytes, pause: float
    ) -> None:
        self._request, self._left, self._load, self._good = request, left, load, good
        self._pause = pause
        self._received = b""
        self._length = 0
        self._sent_at = 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._next()

    def _next(self) -> None:
        if next(self._left, None) is None:
            self.done.set_result(None)
            self._transport.close()
            return
        self._received, self._length = b"", 0
        self._sent_at = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self._received:
            self._load.first_byte.append(time.perf_counter() - self._sent_at)
        self._received += data
        if not self._is_whole():
            return
        self._load.whole.append(time.perf_counter() - self._sent_at)
        if self._good not in self._received and not self.done.done():
            self.done.set_exception(AssertionError(self._received[:1000]))
            self._transport.close()
        elif self._pause:
            asyncio.get_running_loop().call_later(self._pause, self._next)
        else:
            self._next()

    def _is_whole(self) -> bool:
        if not self._length:
            head, end, _ = self._received.partition(_END_OF_HEADERS)
            if not end:
                return False
            length = head.lower().partition(_LENGTH)[2].partition(b"\r\n")[0]
            if not length:  # sent in chunks
                return self._received.endswith(_LAST_CHUNK)
            self._length = len(head) + len(end) + int(length)
        return len(self._received) >= self._length

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or ConnectionResetError())


async def load(
    port: int, request: bytes, good: bytes, *, count: int, connections: int, pause: float = 0
) -> Load:
    """Sends the request so often; every answer must hold `good`.

    Each connection waits `pause` seconds between an answer and its next request.
    """
    found, left = Load(), iter(range(count))
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(
            lambda: _Connection(request, left, found, good, pause), "127.0.0.1", port
        )
        for _ in range(connections)
    ]
    await asyncio.gather(*(protocol.done for _, protocol in made))
    return found


async def logged_in() -> str:
    """Returns the cookie of a user who has logged in, as the browser sends it."""
    return await sync_to_async(_new_session)()


def _new_session() -> str:
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.auth.models import User
    from django.contrib.sessions.backends.db import SessionStore

    user, _ = User.objects.get_or_create(username="ann")
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.create()
    return f"sessionid={session.session_key}"
