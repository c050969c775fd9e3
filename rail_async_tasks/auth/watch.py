"""The watch of an event loop over the callers of its open streams and sockets."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Final, Protocol
from weakref import WeakKeyDictionary

from asgiref.sync import sync_to_async

from rail_async_tasks.auth.losses import SIGNED_OUT, Loss
from rail_async_tasks.auth.standing import Claim, Standing, standings
from rail_async_tasks.forks import after_fork
from rail_async_tasks.hooks import contained
from rail_async_tasks.own_views import release_connections
from rail_async_tasks.safe_logging import get_logger

logger = get_logger("rail_async_tasks.auth")

# Seconds between two checks. A loss that no signal announces ends streams within this time and
# that of a query.
CHECK_SECONDS: Final = 15.0
# After a check that failed: the database is away.
RETRY_SECONDS: Final = 2.0


class Watched(Protocol):
    """One caller's guard, as far as the watch uses it. `rights.Guard` is one."""

    @property
    def claim(self) -> Claim | None: ...
    @property
    def lost(self) -> Loss | None: ...
    def judge(self, standing: Standing) -> None: ...
    def lose(self, loss: Loss) -> None: ...


class Watch:
    """The guards of one event loop, asked for together."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._guards: set[Watched] = set()
        self._hurried: set[Watched] = set()
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def add(self, guard: Watched) -> None:
        self._guards.add(guard)
        if self._task is None or self._task.done():
            # Not in the context of a request, which ends before.
            context = contextvars.Context()
            self._task = self.loop.create_task(self._run(), context=context)

    def remove(self, guard: Watched) -> None:
        self._guards.discard(guard)
        if not self._guards:
            self._wanted.set()  # ends the task

    def hurry(self, user_ids: Collection[str] | None) -> None:
        """Asks at once for the guards of these users, None for all. In the event loop."""
        for guard in self._guards:
            claim = guard.claim
            if claim is not None and (user_ids is None or claim.user_id in user_ids):
                self._hurried.add(guard)
                self._wanted.set()

    def end_session(self, session_key: str) -> None:
        """Ends what was opened with this session. In the event loop."""
        for guard in list(self._guards):
            if guard.claim is not None and guard.claim.session_key == session_key:
                guard.lose(SIGNED_OUT)

    async def _run(self) -> None:
        pause = CHECK_SECONDS
        while self._guards:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wanted.wait()
            everyone = not self._wanted.is_set()
            self._wanted.clear()
            hurried, self._hurried = self._hurried, set()
            answered = await self._judge(self._guards if everyone else hurried & self._guards)
            pause = CHECK_SECONDS if answered else RETRY_SECONDS

    async def _judge(self, some: Collection[Watched]) -> bool:
        """Asks for these guards; returns whether the database answered."""
        asked = [(it, it.claim) for it in some if it.claim is not None and it.lost is None]
        if not asked:
            return True
        # In a thread of its own: the one that requests share may be waiting for this event loop.
        ask = sync_to_async(contained(_standings), thread_sensitive=False)
        try:
            found: list[Standing] = await ask([claim for _, claim in asked])
        except Exception as error:  # noqa: BLE001 - a database, a session store
            # Nothing can be withdrawn in a database that is away: streams stay.
            logger.warning("Open streams cannot be checked: %s", type(error).__name__)
            return False
        for (guard, _), standing in zip(asked, found, strict=True):
            guard.judge(standing)
        return True


def _standings(claims: list[Claim]) -> list[Standing]:
    """Reads the standings; an open stream holds no connection between two checks."""
    try:
        return standings(claims)
    finally:
        release_connections()


_lock = threading.Lock()
_watches: WeakKeyDictionary[asyncio.AbstractEventLoop, Watch] = WeakKeyDictionary()


def watch_here() -> Watch:
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
