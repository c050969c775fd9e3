"""The watchdog: logs who blocks the event loop, while it is blocked."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.vital import make_vital

logger = get_logger("rail_async_tasks.runtime")

# The loop is asked for a sign of life every `TICK_SECONDS`, and counts as blocked without one for
# `BLOCKED_SECONDS`. A block of one second must be logged: the bound is shorter by one tick, as the
# last look may come that long before the block ends.
TICK_SECONDS = 0.1
BLOCKED_SECONDS = 0.9
# So often where nothing runs: a block is then noticed after two of these, which is soon enough for
# the lease.
QUIET_TICK_SECONDS = 1.5
# The worst lag is that of this window and the one before.
WINDOW_SECONDS = 15.0


class Watchdog:
    """Watches one loop from a thread. Made and started on the loop.

    Args:
        name: returns what the loop's current task runs, for the log. Called in the thread.
        quiet: returns whether this process has had no work lately.
        quiet_tick: the seconds between two questions then. `alert` ends that.
        clock: returns seconds that never go back.
    """

    def __init__(
        self,
        name: Callable[[asyncio.Task[Any]], str],
        *,
        quiet: Callable[[], bool] = lambda: False,
        quiet_tick: float = QUIET_TICK_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._quiet = quiet
        self._quiet_tick = max(quiet_tick, TICK_SECONDS)
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._stopped = False
        self._wake = threading.Event()
        self._ticked_at = self._seen = clock()
        self._answered = False  # the last question
        self._reported = False  # the block that goes on
        self.blocked = 0  # how often the loop was blocked
        self.answers = 0  # signs of life
        self._asked_at = self._window_at = clock()
        self._worst = (0.0, 0.0)  # of the last window, of this one

    def start(self) -> None:
        threading.Thread(target=self._run, name="rail-tasks-watchdog", daemon=True).start()

    def stop(self) -> None:
        self._stopped = True
        self._wake.set()

    def alert(self) -> None:
        """A body begins after a quiet time: asks often from now on. On the loop, which lives."""
        if self._answered:  # the last question, a while ago
            self._ticked_at = self._clock()
        else:
            self._tick()
        self._wake.set()

    @property
    def lag(self) -> float:
        """Seconds since the loop's last sign of life. From any thread."""
        return self._clock() - self._ticked_at

    @property
    def worst_lag(self) -> float:
        """Returns how late, in seconds, the loop was at most in the last 15 to 30 s.

        That is, how long a callback waited for its turn. From any thread.
        """
        now = self._clock()
        waits = 0.0 if self._answered else now - self._asked_at
        before, worst = self._worst if now - self._window_at < 2 * WINDOW_SECONDS else (0.0, 0.0)
        return max(before, worst, waits)

    def ask(self) -> bool:
        """Asks the loop for a sign of life; returns False once it is closed."""
        self._answered = False
        self._asked_at = self._clock()
        try:
            self._loop.call_soon_threadsafe(self._tick)
        except RuntimeError:
            return False
        return True

    def look(self) -> bool:
        """Logs a block that has begun or ended since the last look; False once the loop is closed.

        In any thread; always in the same one.
        """
        if self._answered:
            if self._reported:
                logger.warning("The event loop goes on after %.1f s", self._ticked_at - self._seen)
            self._seen, self._reported = self._ticked_at, False
            return self.ask()
        if (lag := self.lag) > BLOCKED_SECONDS and not self._reported:
            self._reported = True
            self.blocked += 1
            try:
                self._report(lag)
            except Exception:  # a task's name is found by the project's own objects
                logger.exception("The event loop has been blocked for %.1f s", lag)
        return True

    def _tick(self) -> None:
        self.answers += 1
        self._ticked_at = now = self._clock()
        if now - self._window_at > WINDOW_SECONDS:
            self._worst, self._window_at = (self._worst[1], 0.0), now
        self._worst = (self._worst[0], max(self._worst[1], now - self._asked_at))
        self._answered = True

    def _run(self) -> None:
        make_vital()  # while it waited for a log handler, the loop would seem to be blocked
        self.ask()
        while True:
            self._wake.wait(self._quiet_tick if self._quiet() else TICK_SECONDS)
            self._wake.clear()
            if self._stopped or not self.look():
                return

    def _report(self, lag: float) -> None:
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001 (there is no other)
        task = asyncio.current_task(self._loop)
        stack = "" if frame is None else "".join(traceback.format_stack(frame))
        blocker = "a callback" if task is None else self._name(task)
        logger.warning(
            "The event loop has been blocked for %.1f s by %s. It stands at:\n%s",
            lag, blocker, stack,
        )  # fmt: skip
