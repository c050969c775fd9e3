"""Ends streams and sockets whose caller has lost the right to them.

A `Guard` stands for one stream or socket. Each event loop has a `Watch` over its guards, which
asks for all of them together: every `CHECK_SECONDS`, at once where `auth.signals` has heard of a
change in this process, and before each operation on a socket. A token ends at its own time.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any, Final, Self, TypeVar
from weakref import WeakKeyDictionary

from asgiref.sync import sync_to_async
from django.core.exceptions import PermissionDenied

from rail_async_tasks.access import Viewer
from rail_async_tasks.auth.credential import credential_of
from rail_async_tasks.auth.standing import Claim, Standing, standings
from rail_async_tasks.errors import BackendUnavailable, Unauthenticated
from rail_async_tasks.forks import after_fork
from rail_async_tasks.hooks import contained
from rail_async_tasks.safe_logging import get_logger

logger = get_logger("rail_async_tasks.auth")

T = TypeVar("T")

# Seconds between two checks. A loss that no signal announces ends streams within this time and
# that of a query.
CHECK_SECONDS: Final = 15.0
# After a check that failed: the database is away.
RETRY_SECONDS: Final = 2.0
# The longest timer: event loops refuse some that are centuries long.
_LONGEST_TIMER: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Loss:
    """Why a stream ends. `close_code` is for WebSockets, `code` and `message` for the client."""

    close_code: int
    code: str
    message: str

    def error(self) -> Exception:
        """Returns the refusal that the edges know."""
        if self.code == Unauthenticated.code:
            return Unauthenticated(self.message)
        return PermissionDenied(self.message)


SIGNED_OUT: Final = Loss(4401, "UNAUTHENTICATED", "You are signed out. Sign in again.")
EXPIRED: Final = Loss(4401, "UNAUTHENTICATED", "The token has expired. Connect with a new one.")
WITHDRAWN: Final = Loss(4403, "FORBIDDEN", "You may not see all tasks any more. Connect again.")


class Guard:
    """Watches over one caller. Open it with `with`, in the event loop of the stream.

    Args:
        claim: what the database must still say; None where it knows nothing of the user.
        expires_at: when the token ends, in seconds since 1970; None for other credentials.
        sees_all: whether the caller could see every task; None where it is not known yet.
    """

    def __init__(
        self, claim: Claim | None, expires_at: float | None, *, sees_all: bool | None = None
    ) -> None:
        self.claim = claim
        self.lost: Loss | None = None
        self.on_lost: Callable[[Loss], None] = lambda _: None
        self._expires_at = expires_at
        self._sees_all = sees_all
        self._timer: asyncio.TimerHandle | None = None
        self._waits: set[asyncio.Timeout] = set()
        self._watch: Watch | None = None

    @classmethod
    def of(
        cls,
        user: Any,
        request: Any,
        connection_params: Mapping[str, Any] | None = None,
        viewer: Viewer | None = None,
    ) -> Guard | None:
        """Returns the guard of an authenticated caller; None where there is nothing to lose."""
        credential = credential_of(user, request, connection_params)
        if credential is None:
            return None
        claim = Claim.of(user, credential.session_key) if credential.is_stored else None
        return cls(
            claim, credential.expires_at, sees_all=None if viewer is None else viewer.sees_all
        )

    def __enter__(self) -> Self:
        self._watch = _watch_here()
        self._watch.add(self)
        self._arm()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the watch. May be called twice."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.remove(self)
        if self._timer is not None:
            self._timer.cancel()

    async def ask(self) -> Standing | None:
        """Asks now, for an operation; None where the database knows nothing of the user.

        Raises:
            Unauthenticated, PermissionDenied: the caller has lost the right.
            BackendUnavailable: the database does not answer.
        """
        standing = None
        if self.lost is None and self.claim is not None:
            standing = await (self._watch or _watch_here()).ask(self)
        self.check()
        return standing

    def check(self) -> None:
        """Raises what `ask` raises if the right is known to be lost."""
        if self.lost is not None:
            raise self.lost.error()

    async def next(self, events: AsyncGenerator[T, None]) -> T:
        """Returns the next event. Raises `StopAsyncIteration`, or as `check` once it is lost."""
        self.check()
        wait = asyncio.timeout(None)  # ended by `lose`, without a task per event
        try:
            async with wait:
                self._waits.add(wait)
                event = await anext(events)
        except TimeoutError:
            self.check()
            raise
        finally:
            self._waits.discard(wait)
        self.check()
        return event

    def judge(self, standing: Standing) -> None:
        """Compares what was found now with what the caller was let in by."""
        if standing.user is None:
            self.lose(SIGNED_OUT)
        elif self._sees_all and not standing.viewer.sees_all:
            self.lose(WITHDRAWN)
        else:
            self._sees_all = standing.viewer.sees_all

    def lose(self, loss: Loss) -> None:
        """Ends the stream, in its event loop. The first reason stays."""
        if self.lost is not None:
            return
        self.lost = loss
        for wait in self._waits:
            wait.reschedule(asyncio.get_running_loop().time())
        if self._watch is not None:
            self.on_lost(loss)

    def _arm(self) -> None:
        if self._expires_at is None:
            return
        left = self._expires_at - time.time()
        if left <= 0:
            self.lose(EXPIRED)
        else:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(min(left, _LONGEST_TIMER), self._arm)


async def guarded(events: AsyncGenerator[T, None], guard: Guard | None) -> AsyncGenerator[T, None]:
    """Yields the events while the guard's caller may read them; then raises as `Guard.check`."""
    async with aclosing(events):
        if guard is None:
            async for event in events:
                yield event
            return
        with guard, suppress(StopAsyncIteration):
            while True:
                yield await guard.next(events)


class Watch:
    """The guards of one event loop, asked for together."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._guards: set[Guard] = set()
        self._asked: dict[Guard, asyncio.Future[Standing]] = {}
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def add(self, guard: Guard) -> None:
        self._guards.add(guard)
        self._start()

    def remove(self, guard: Guard) -> None:
        self._guards.discard(guard)
        if not self._guards:
            self._wanted.set()  # ends the task

    async def ask(self, guard: Guard) -> Standing:
        """Returns the standing by a check that begins after this call, shared with other calls."""
        future = self._asked.get(guard)
        if future is None:
            future = self._asked[guard] = self.loop.create_future()
        self._wanted.set()
        self._start()
        return await asyncio.shield(future)

    def hurry(self, user_ids: Collection[str] | None) -> None:
        """Asks at once for the guards of these users, None for all. In the event loop."""
        for guard in self._guards:
            claim = guard.claim
            if claim is not None and (user_ids is None or claim.user_id in user_ids):
                if guard not in self._asked:
                    self._asked[guard] = self.loop.create_future()
                self._wanted.set()

    def end_session(self, session_key: str) -> None:
        """Ends what was opened with this session. In the event loop."""
        for guard in list(self._guards):
            if guard.claim is not None and guard.claim.session_key == session_key:
                guard.lose(SIGNED_OUT)

    def _start(self) -> None:
        if self._task is None or self._task.done():
            # Not in the context of a request: its thread ends with it.
            context = contextvars.Context()
            self._task = self.loop.create_task(self._run(), context=context)

    async def _run(self) -> None:
        pause = CHECK_SECONDS
        while self._guards or self._asked:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wanted.wait()
            everyone = not self._wanted.is_set()
            self._wanted.clear()
            asked, self._asked = self._asked, {}
            guards = list(self._guards | asked.keys() if everyone else asked)
            pause = CHECK_SECONDS if await self._judge(guards, asked) else RETRY_SECONDS

    async def _judge(
        self, guards: list[Guard], asked: dict[Guard, asyncio.Future[Standing]]
    ) -> bool:
        """Asks for the guards; returns whether the database answered."""
        guards = [guard for guard in guards if guard.claim is not None and guard.lost is None]
        try:
            found = await _standings([guard.claim for guard in guards if guard.claim is not None])
        except Exception as error:  # noqa: BLE001 - a database, a session store
            # Nothing can be withdrawn in a database that is away. Streams stay, operations do not.
            logger.warning("Open streams cannot be checked: %s", type(error).__name__)
            for future in asked.values():
                if not future.done():
                    future.set_exception(BackendUnavailable())
                    future.exception()  # nobody may wait for it
            return False
        for guard, standing in zip(guards, found, strict=True):
            guard.judge(standing)
            waiter = asked.pop(guard, None)
            if waiter is not None and not waiter.done():
                waiter.set_result(standing)
        for future in asked.values():  # lost meanwhile: `Guard.ask` raises that
            if not future.done():
                future.set_result(Standing(None, Viewer()))
        return True


async def _standings(claims: list[Claim]) -> list[Standing]:
    if not claims:
        return []
    found: list[Standing] = await sync_to_async(contained(standings))(claims)
    return found


_lock = threading.Lock()
_watches: WeakKeyDictionary[asyncio.AbstractEventLoop, Watch] = WeakKeyDictionary()


def _watch_here() -> Watch:
    loop = asyncio.get_running_loop()
    with _lock:
        watch = _watches.get(loop)
        if watch is None:
            watch = _watches[loop] = Watch(loop)
        return watch


def on_each_watch(call: Callable[[Watch], None]) -> None:
    """Calls with each watch of this process, in its event loop. From any thread; never waits."""
    with _lock:
        watches = list(_watches.values())
    for watch in watches:
        with suppress(RuntimeError):  # its loop is closed
            watch.loop.call_soon_threadsafe(call, watch)


def _start_afresh() -> None:
    """Forgets the parent's streams in a forked child."""
    global _lock, _watches
    _lock, _watches = threading.Lock(), WeakKeyDictionary()


after_fork(_start_afresh)
