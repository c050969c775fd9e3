"""Fetches and caches the keys that an identity provider publishes (JWKS, RFC 7517).

A thread fetches, one at a time, so that no event loop waits for the network. Made-up key ids cause
at most one fetch a minute.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from rail_async_tasks.backoff import Backoff
from rail_async_tasks.safe_logging import get_logger

logger = get_logger("rail_async_tasks.auth")

# All in seconds. Keys older than this are fetched again, and are used meanwhile.
FRESH: Final = 300.0
# Keys older than this are not used: the provider has been away for too long.
STALE: Final = 3600.0
# An unknown key id may be that of a new key: keys are fetched for it once in this time at most.
UNKNOWN_EVERY: Final = 60.0
# After a failed fetch, where there are no keys or they are old.
RETRY_AFTER: Final = 5.0
# For connecting and for each read; for a whole answer; and for the callers that wait for it.
READ_TIMEOUT: Final = 5.0
ANSWER_TIMEOUT: Final = 8.0
WAIT_TIMEOUT: Final = 10.0
# A provider has a handful of keys, of 2 KiB at most with their certificates.
MAX_BYTES: Final = 512 * 1024

LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")

Jwk = dict[str, Any]
Keys = Mapping[str, Jwk]


class Unusable(Exception):
    """The answer has no usable keys; the message says why."""


class KeySet:
    """The keys at one URL by their ids. Used from any thread and any event loop."""

    def __init__(
        self,
        url: str,
        *,
        fetch: Callable[[str], Keys] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._fetch = fetch or fetch_keys
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: Keys = {}
        self._loaded_at = float("-inf")
        self._failed_at = float("-inf")
        self._asked_for_unknown_at = float("-inf")
        self._fetching: Future[None] | None = None
        self._backoff = Backoff(
            'task_settings["jwt"]["jwks_url"]: the keys cannot be fetched',
            "Bearer tokens that need them are refused",
            log=logger, level=logging.ERROR, clock=clock,
        )  # fmt: skip

    def find(self, kid: str) -> Jwk | None:
        """Returns the key of that id; None if there is none or the provider is away."""
        fetching = self._fetch_that_may_help(kid)
        if fetching is not None:
            with suppress(TimeoutError):
                fetching.result(WAIT_TIMEOUT)
        return self._known(kid)

    async def afind(self, kid: str) -> Jwk | None:
        """`find()` for event loops."""
        fetching = self._fetch_that_may_help(kid)
        if fetching is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.wrap_future(fetching), WAIT_TIMEOUT)
        return self._known(kid)

    def _known(self, kid: str) -> Jwk | None:
        with self._lock:
            return self._keys.get(kid) if self._age() <= STALE else None

    def _age(self) -> float:
        return self._clock() - self._loaded_at

    def _fetch_that_may_help(self, kid: str) -> Future[None] | None:
        """Starts a fetch if one is due; returns it if the caller has to wait for it."""
        with self._lock:
            age = self._age()
            if age > STALE:
                return self._fetch_again() if self._may_retry() else self._fetching
            if kid in self._keys:
                if age > FRESH and self._may_retry():
                    self._fetch_again()
                return None
            now = self._clock()
            if self._fetching is None and now - self._asked_for_unknown_at >= UNKNOWN_EVERY:
                self._asked_for_unknown_at = now
                return self._fetch_again()
            return self._fetching

    def _may_retry(self) -> bool:
        return self._clock() - self._failed_at >= RETRY_AFTER

    def _fetch_again(self) -> Future[None] | None:
        """Starts a fetch, unless one is under way, and returns it."""
        if self._fetching is None:
            done: Future[None] = Future()
            done.set_running_or_notify_cancel()  # a caller that no longer waits must not cancel it
            thread = threading.Thread(
                target=self._run, args=(done,), name="rail_async_tasks-jwks", daemon=True
            )
            with suppress(RuntimeError):  # the interpreter is ending
                thread.start()
                self._fetching = done
        return self._fetching

    def _run(self, done: Future[None]) -> None:
        begun = self._clock()
        keys: Keys | None = None
        try:
            keys = self._fetch(self._url)
        except Exception as error:  # noqa: BLE001 - sockets, TLS, HTTP, JSON: the network's answer
            self._backoff.failed(_reason(error))
        else:
            self._backoff.recovered()
        with self._lock:
            if keys is None:
                self._failed_at = self._clock()
            else:
                self._keys, self._loaded_at = keys, begun
            self._fetching = None
        done.set_result(None)


def fetch_keys(url: str) -> Keys:
    """Returns the keys at `url`: https, or http on this machine. Follows no redirect.

    Raises `Unusable`, or whatever the network brings.
    """
    parts = urlsplit(url)
    local = parts.hostname in LOOPBACK
    if parts.scheme != "https" and not (parts.scheme == "http" and local):
        raise Unusable("the URL is not https")
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler({} if local else None),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
    ):
        opener.add_handler(handler)
    request = urllib.request.Request(url, headers={"Accept": "application/json"})  # noqa: S310 - see above
    with opener.open(request, timeout=READ_TIMEOUT) as response:
        return keys_in(_body(response))


def _body(response: http.client.HTTPResponse) -> bytes:
    """Reads the answer within a size and a time: a server may send a byte every 4 s."""
    deadline = time.monotonic() + ANSWER_TIMEOUT
    body = b""
    while chunk := response.read1(65_536):
        body += chunk
        if len(body) > MAX_BYTES:
            raise Unusable("the answer is too large")
        if time.monotonic() > deadline:
            raise Unusable("the answer takes too long")
    return body


def keys_in(body: bytes) -> Keys:
    """Returns the signature keys of a JWKS by id. Skips secrets (`oct`), which are not public.

    Raises `Unusable` where there are none.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise Unusable("the answer is not JSON") from None
    listed = document.get("keys") if isinstance(document, dict) else None
    keys: dict[str, Jwk] = {}
    for jwk in listed if isinstance(listed, list) else ():
        if _is_for_signatures(jwk):
            keys.setdefault(jwk["kid"], jwk)
    if not keys:
        raise Unusable("the answer has no key with an id")
    return keys


def _is_for_signatures(jwk: object) -> bool:
    return (
        isinstance(jwk, dict)
        and isinstance(jwk.get("kid"), str)
        and jwk.get("kty") in ("RSA", "EC", "OKP")
        and jwk.get("use", "sig") == "sig"
    )


def _reason(error: Exception) -> str:
    if isinstance(error, Unusable):
        return str(error)
    if isinstance(error, HTTPError):
        return f"HTTP status {error.code}"
    if isinstance(error, URLError):
        return str(error.reason)
    return type(error).__name__
