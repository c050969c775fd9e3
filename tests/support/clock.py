"""A clock that stands still until a test advances it.

    async def test_a_lease_is_renewed(clock: FakeClock) -> None:
        lease = Lease(ledger=MemoryLedger(now=clock.now), monotonic=clock.monotonic)
        await clock.advance(20)

The fixture `clock` (in `tests/conftest.py`) drives the loop of a coroutine test: `loop.time()`, and
with it `asyncio.sleep`, `asyncio.timeout`, `asyncio.wait_for` and `call_later`, go by this clock. A
service that asks the system for the time must be handed `clock.monotonic` or `clock.now`. A test
without a loop makes a `FakeClock()` of its own and moves it with `jump`.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

START = datetime(2030, 1, 1, 12, tzinfo=UTC)
# Turns of the loop in which everything that is ready must have run; more is a busy loop.
MOST_TURNS = 10_000
# After so many turns a moment passes, as it would by a real clock.
TURNS_OF_A_MOMENT = 100


class FakeClock:
    """Seconds and dates that move only by `jump` and `advance`."""

    def __init__(self, start: datetime = START) -> None:
        self._start = start
        self._zero = 0.0
        self._seconds = 0.0
        self._loop: asyncio.BaseEventLoop | None = None
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._count = 0

    def monotonic(self) -> float:
        """Return seconds, in place of `time.monotonic`."""
        return self._seconds

    def now(self) -> datetime:
        """Return the date in UTC, in place of `datetime.now(UTC)`."""
        return self._start + timedelta(seconds=self._seconds - self._zero)

    def jump(self, seconds: float) -> None:
        """Move the time at once. Timers that are due by then run when the loop next turns."""
        self._seconds += seconds

    async def advance(self, seconds: float) -> None:
        """Move the time from timer to timer, and let the loop come to rest after each.

        A service that sleeps for 1 s in a loop runs ten times when a test advances by 10.
        """
        end = self._seconds + seconds
        await self.settle()
        while (due := self._next_timer(end)) is not None:
            self._seconds = due
            await self.settle()
        self._seconds = end
        await self.settle()

    async def settle(self) -> None:
        """Return when all tasks of the loop wait: for time, for a signal, or for a thread.

        Raises AssertionError where they never do.
        """
        loop: Any = self._loop or asyncio.get_running_loop()
        for turn in range(1, MOST_TURNS):
            await asyncio.sleep(0)
            if not loop._ready:
                return
            if turn % TURNS_OF_A_MOMENT == 0:
                # asyncio runs a timer up to a nanosecond early. What then sees that its time has
                # not come sets it again: by a clock that stands still, for ever.
                self._seconds += max(loop._clock_resolution, math.ulp(self._seconds))
        raise AssertionError(f"The loop is still busy after {MOST_TURNS} turns.")

    @contextmanager
    def driving(self, loop: asyncio.AbstractEventLoop) -> Iterator[FakeClock]:
        """Make the loop go by this clock meanwhile. asyncio's own loop only, not uvloop's."""
        assert isinstance(loop, asyncio.BaseEventLoop), f"{type(loop)} cannot have a fake clock."
        self._zero = self._seconds = loop.time()  # timers that the loop has already keep their time
        self._loop = loop
        call_at = loop.call_at

        def noted(
            when: float, callback: Callable[..., object], *args: Any, context: Any = None
        ) -> asyncio.TimerHandle:
            handle = call_at(when, callback, *args, context=context)
            self._count += 1
            heapq.heappush(self._timers, (when, self._count, handle))
            return handle

        patched: Any = loop
        patched.time, patched.call_at = self.monotonic, noted
        try:
            yield self
        finally:
            del patched.time, patched.call_at
            self._loop = None

    def _next_timer(self, end: float) -> float | None:
        """The time of the first timer that waits, if it is not after `end`."""
        while self._timers:
            when, _, handle = self._timers[0]
            if when > self._seconds and not handle.cancelled():
                return when if when <= end else None
            heapq.heappop(self._timers)  # it has run, or will not
        return None


def is_faked(loop: asyncio.AbstractEventLoop) -> bool:
    """Returns whether a FakeClock drives this loop."""
    return isinstance(getattr(loop.time, "__self__", None), FakeClock)
