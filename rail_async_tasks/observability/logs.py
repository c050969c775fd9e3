"""Log lines about tasks: started, ended, slow. Names and ids, never arguments or results.

No line can be forged by a task's name, which `definition` keeps printable and without spaces.
"""

from __future__ import annotations

import logging

from rail_async_tasks.conf import TaskSettings
from rail_async_tasks.runtime.failure_log import log_fields
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.snapshot import TaskSnapshot

logger = get_logger("rail_async_tasks.tasks")


class LogObserver:
    """See `observers.Observer`. The record of each line has its facts as attributes."""

    def __init__(self, *, starts: bool, ends: bool, slow_after: float | None) -> None:
        self._starts = starts
        self._ends = ends
        self._slow_after = slow_after

    def enqueued(self, snapshot: TaskSnapshot) -> None:
        """Logs nothing: `started` follows, or the list of waiting tasks has it."""

    def started(self, snapshot: TaskSnapshot) -> None:
        if self._starts and logger.isEnabledFor(logging.INFO):
            logger.info(
                "Task %s (%s) started, attempt %d",
                snapshot.name, snapshot.id, snapshot.attempts, extra=log_fields(snapshot),
            )  # fmt: skip

    def slow(self, snapshot: TaskSnapshot, seconds: float) -> None:
        logger.warning(
            "Task %s (%s) is slow: it has run for %.3f s, more than %g s",
            snapshot.name, snapshot.id, seconds, self._slow_after,
            extra=log_fields(snapshot, seconds),
        )  # fmt: skip

    def ended(self, snapshot: TaskSnapshot, seconds: float | None, traceback: str | None) -> None:
        # The duration of a slow one is always logged: its warning came before the end.
        slow = self._slow_after is not None and seconds is not None and seconds > self._slow_after
        if not (self._ends or slow) or not logger.isEnabledFor(logging.INFO):
            return
        if seconds is None:
            logger.info(
                "Task %s (%s) %s (%s), without an attempt here",
                snapshot.name, snapshot.id, snapshot.status, snapshot.error_code,
                extra=log_fields(snapshot),
            )  # fmt: skip
            return
        logger.info(
            "Task %s (%s) %s after %.3f s, attempt %d",
            snapshot.name, snapshot.id, _HOW.get(snapshot.status, snapshot.status), seconds,
            snapshot.attempts, extra=log_fields(snapshot, seconds),
        )  # fmt: skip

    def dropped(self, snapshot: TaskSnapshot, seconds: float) -> None:
        """Logs nothing: the runtime itself warns of it."""


# How a line reads where the status alone would not.
_HOW = {"retrying": "ended and will be retried"}


def observe_by_logs(settings: TaskSettings) -> LogObserver | None:
    """Returns an observer that writes the lines that the settings ask for."""
    slow_after = settings.slow_task_threshold_seconds
    if not (settings.log_task_start or settings.log_task_complete or slow_after is not None):
        return None
    return LogObserver(
        starts=settings.log_task_start, ends=settings.log_task_complete, slow_after=slow_after
    )
