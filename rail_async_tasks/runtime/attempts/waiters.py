"""Who waits for tasks: bodies, each with all its waits, and stray threads.

A body may wait for thousands of tasks, so it is looked at as a whole: now and then, and when a slot
is freed that one of its tasks lacks.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import NamedTuple, TypeAlias

from rail_async_tasks.runtime.attempts.attempt import Attempt
from rail_async_tasks.runtime.attempts.timings import ATTEMPT_TIMINGS, AttemptTimings
from rail_async_tasks.runtime.attempts.waits import Wait
from rail_async_tasks.runtime.claims.plan import Line
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.snapshot import TaskSnapshot

logger = get_logger("rail_async_tasks.runtime")

# Queue and name of awaited tasks: what keeps one of a group from a slot keeps all of it.
Group: TypeAlias = tuple[str, str]


class Waiter:
    """A body that waits for tasks, or a stray thread that waits for one.

    Attributes:
        attempt: the body's; None of a stray thread.
        groups: its waits by group. Within a group, the next one to be helped comes first.
        since: by the loop's clock, when an awaited task last had a chance, or will have one: it is
            due, has begun or ended, or another body has ended.
        holders: of a stray thread, the attempts that held its slots at the last look.
        reported: the groups that were reported.
        timer: the next look.
    """

    def __init__(self, wait: Wait, now: float) -> None:
        self.attempt = wait.attempt
        self.groups: dict[Group, dict[Wait, None]] = {}
        self.since = now
        self.holders: list[Attempt] = []
        self.reported: set[Group] = set()
        self.timer: asyncio.TimerHandle | None = None
        self.is_looked_at = False
        self._thread = wait.thread

    def __str__(self) -> str:
        return f"The thread {self._thread!r}" if self.attempt is None else str(self.attempt)

    def add(self, wait: Wait) -> None:
        self.groups.setdefault(_group(wait), {})[wait] = None

    def remove(self, wait: Wait) -> None:
        group = _group(wait)
        waits = self.groups.get(group, {})
        waits.pop(wait, None)
        if not waits:
            self.groups.pop(group, None)

    def put_last(self, wait: Wait) -> None:
        """Has the others of its group helped first."""
        waits = self.groups.get(_group(wait), {})
        if wait in waits:
            del waits[wait]
            waits[wait] = None

    @property
    def awaited(self) -> Iterator[TaskSnapshot]:
        """Yields the tasks that it waits for, as they were when it began to."""
        return (wait.awaited for waits in self.groups.values() for wait in waits)


def _group(wait: Wait) -> Group:
    return (wait.awaited.queue, wait.awaited.name)


class Look(NamedTuple):
    """What a look at a waiter has found.

    Attributes:
        lacks: the lines in which its tasks lack a slot.
        started: one of its tasks was started.
    """

    lacks: frozenset[Line] = frozenset()
    started: bool = False


class Waiters:
    """The bodies of one runtime that wait, and stray threads. On its loop, but for `call_soon`.

    Args:
        look: is awaited for each waiter, now and then, and when a slot is freed that it lacks.
    """

    def __init__(
        self,
        *,
        look: Callable[[Waiter], Awaitable[Look]],
        timings: AttemptTimings = ATTEMPT_TIMINGS,
    ) -> None:
        self._look = look
        self._timings = timings
        self._loop = asyncio.get_running_loop()
        # By attempt; stray threads by their wait.
        self._waiters: dict[Attempt | Wait, Waiter] = {}
        self._bodies: Counter[bool] = Counter()
        # Waiters that lack a slot, in the order in which they came.
        self._lines: defaultdict[Line, dict[Waiter, None]] = defaultdict(dict)
        self._looks: set[asyncio.Task[None]] = set()

    def call_soon(self, call: Callable[[Wait], None], wait: Wait) -> None:
        """Calls on the runtime's loop. From any thread."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(call, wait)

    def begin(self, wait: Wait) -> None:
        """A wait begins."""
        attempt = wait.attempt
        if attempt is not None and attempt.ended:
            return
        waiter = self._waiters.get(attempt or wait)
        if waiter is None:
            waiter = self._waiters[attempt or wait] = Waiter(wait, self._loop.time())
            if attempt is not None:
                self._bodies[not attempt.definition.is_coroutine] += 1
        waiter.add(wait)
        self._look_in(self._timings.wait_first_look, waiter)

    def end(self, wait: Wait) -> None:
        """The wait is over."""
        waiter = self._waiters.get(wait.attempt or wait)
        if waiter is not None:
            waiter.since = self._loop.time()
            waiter.remove(wait)
            if not waiter.groups:
                self._forget(wait.attempt or wait)

    def body_ended(self, attempt: Attempt) -> None:
        """The body has ended, and whatever still waits in its name lends no slot any more."""
        self._forget(attempt)

    def slot_freed(self) -> None:
        """A slot is free: looks at once at the first waiter of each line."""
        for line in list(self._lines.values()):
            waiter = next((it for it in line if not it.is_looked_at), None)
            if waiter is not None:
                self._begin_look(waiter, freed=True)

    def bodies(self, in_thread: bool) -> int:
        """Returns how many bodies of that kind wait."""
        return self._bodies[in_thread]

    @property
    def attempts(self) -> set[Attempt]:
        """The attempts whose bodies wait."""
        return {it.attempt for it in self._waiters.values() if it.attempt is not None}

    async def close(self, seconds: float) -> None:
        """Ends all waits; returns when no look is under way, after so many seconds in any case."""
        for key in list(self._waiters):
            self._forget(key)
        if self._looks:
            await asyncio.wait(self._looks, timeout=seconds)

    def _forget(self, key: Attempt | Wait) -> None:
        waiter = self._waiters.pop(key, None)
        if waiter is None:
            return
        if waiter.attempt is not None:
            self._bodies[not waiter.attempt.definition.is_coroutine] -= 1
        waiter.groups.clear()
        self._stand_in(waiter, frozenset())
        if waiter.timer is not None:
            waiter.timer.cancel()

    def _stand_in(self, waiter: Waiter, lines: frozenset[Line]) -> None:
        """Takes the waiter out of other lines; adds it to the end of these if it is not there."""
        for line, waiting in self._lines.items():
            if line not in lines:
                waiting.pop(waiter, None)
        for line in lines:
            self._lines[line].setdefault(waiter)

    def _look_in(self, seconds: float, waiter: Waiter) -> None:
        """Plans a look, where none is planned before that."""
        if not waiter.groups:
            return
        if waiter.timer is not None:
            if waiter.timer.when() <= self._loop.time() + seconds:
                return
            waiter.timer.cancel()
        waiter.timer = self._loop.call_later(seconds, self._begin_look, waiter)

    def _begin_look(self, waiter: Waiter, freed: bool = False) -> None:
        if waiter.timer is not None:
            waiter.timer.cancel()
            waiter.timer = None
        if waiter.is_looked_at:
            return
        waiter.is_looked_at = True
        # A clean context: an attempt that a look begins must not inherit that of this timer.
        look = self._loop.create_task(
            self._look_safely(waiter, freed), name="rail-tasks-wait", context=contextvars.Context()
        )
        self._looks.add(look)
        look.add_done_callback(self._looks.discard)

    async def _look_safely(self, waiter: Waiter, freed: bool) -> None:
        found = Look()
        try:
            found = await self._look(waiter)
        except Exception as error:
            logger.warning("A look at what %s waits for failed: %s", waiter, error)
        waiter.is_looked_at = False
        if found.started:
            self._stand_in(waiter, frozenset())  # the others have their turn first
        self._stand_in(waiter, found.lacks if waiter.groups else frozenset())
        self._look_in(self._timings.wait_look_every, waiter)
        if found.started or (freed and not found.lacks):
            self.slot_freed()  # there may be more slots than that one
