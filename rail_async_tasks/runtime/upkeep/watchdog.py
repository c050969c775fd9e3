"""The watchdog: says who blocks the event loop, while it is blocked."""

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

# How often (seconds) the loop is asked for a sign of life, and how late it may be with it: less by
# a tick than the second that is promised, for a look may come just before the block is over.
TICK = 0.1
BLOCKED = 0.9


class Watchdog:
    """Watches one loop from a thread. Made and started on the loop.

    Args:
        name: what the loop's current task runs, for the log; called from the thread.
    """

    def __init__(self, name: Callable[[asyncio.Task[Any]], str]) -> None:
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._stop = threading.Event()
        self._ticked_at = time.monotonic()
        self.blocked = 0  # how often that happened

    def start(self) -> None:
        threading.Thread(target=self._run, name="rail-tasks-watchdog", daemon=True).start()

    def stop(self) -> None:
        self._stop.set()

    @property
    def lag(self) -> float:
        """Seconds since the loop's last sign of life. From any thread."""
        return time.monotonic() - self._ticked_at

    def _tick(self) -> None:
        self._ticked_at = time.monotonic()

    def _run(self) -> None:
        make_vital()  # while it waited for a log handler, the loop would seem to be blocked
        seen = self._ticked_at
        told = False
        self._ask()
        while not self._stop.wait(TICK):
            if self._ticked_at != seen:  # it answered: ask again
                if told:
                    logger.warning("The event loop goes on after %.1f s", self._ticked_at - seen)
                seen, told = self._ticked_at, False
                if not self._ask():
                    return
            elif (lag := self.lag) > BLOCKED and not told:
                told = True
                self.blocked += 1
                try:
                    self._complain(lag)
                except Exception:  # a task's name is found by the project's own objects
                    logger.exception("The event loop has been blocked for %.1f s", lag)

    def _ask(self) -> bool:
        try:
            self._loop.call_soon_threadsafe(self._tick)
        except RuntimeError:  # it was closed
            return False
        return True

    def _complain(self, lag: float) -> None:
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001 (there is no other)
        task = asyncio.current_task(self._loop)
        stack = "" if frame is None else "".join(traceback.format_stack(frame))
        who = "a callback" if task is None else self._name(task)
        logger.warning(
            "The event loop has been blocked for %.1f s by %s. It stands at:\n%s",
            lag, who, stack,
        )  # fmt: skip
