"""Progress of one attempt: throttled where it is reported, stamped and published on the loop."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any, Final

from rail_async_tasks.text import MAX_MESSAGE_BYTES, clean

_SHOWN: Final = 50  # characters of a wrong value in a message


def check_percent(percent: float) -> int:
    """Return the whole percentage to store, rounded down.

    Raises:
        ValueError: `percent` is no number from 0 to 100.
    """
    if not _is_between(percent, 0, 100):
        raise ValueError(f"progress is a percentage from 0 to 100, not {shown(percent)}")
    return int(percent)


def _is_between(value: Any, least: int, most: int) -> bool:
    try:
        return math.isfinite(value) and bool(least <= value <= most)
    except OverflowError:  # past what a float holds, as 10**400 is
        return False
    except (TypeError, ValueError, ArithmeticError):  # no number, or a signaling NaN
        return False


def shown(value: object) -> str:
    """Return a value as a message shows it: cut, and by its type where it cannot be written."""
    try:
        text = repr(value)
    except Exception:  # the value's own code, or an integer of too many digits
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


class ProgressReporter:
    """Passes on the latest progress, at most once per `interval` seconds.

    `report` may be called from a coroutine on the loop or from a thread. It stores the latest value
    and, at most once per interval, sees to it that the loop picks it up; so a tight loop in a
    thread costs the event loop two calls per interval, whatever its speed.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        interval: float,
        emit: Callable[[int, str | None], None],
    ) -> None:
        self._loop = loop
        self._interval = interval
        self._emit = emit
        self._latest: tuple[float, str | None] | None = None
        self._scheduled = False
        self._next_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def report(self, percent: int, message: str | None) -> None:
        self._latest = (percent, message)
        if self._scheduled or self._closed:
            return
        self._scheduled = True
        if asyncio._get_running_loop() is self._loop:
            self._schedule()
        else:
            try:
                self._loop.call_soon_threadsafe(self._schedule)
            except RuntimeError:  # the loop is closed: the process is going, with this attempt
                self._closed = True

    def _schedule(self) -> None:
        wait = self._next_at - self._loop.time()
        if wait <= 0:
            self._pass_on()
        elif not self._closed:
            self._timer = self._loop.call_later(wait, self._pass_on)

    def _pass_on(self) -> None:
        self._timer = None
        # Cleared before the value is read: a report that comes in between is scheduled anew.
        self._scheduled = False
        latest, self._latest = self._latest, None
        if latest is None or self._closed:
            return
        self._next_at = self._loop.time() + self._interval
        percent, message = latest
        self._emit(int(percent), None if message is None else clean(message, MAX_MESSAGE_BYTES))

    def close(self) -> None:
        """Passes on what is still held back, and takes no more. On the loop."""
        if self._timer is not None:
            self._timer.cancel()
        self._pass_on()
        self._closed = True
