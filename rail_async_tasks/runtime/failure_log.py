"""Logs failures: a WARNING for an attempt that will be retried, an ERROR for the last one.

Each line names the task and its attempt, and has the exception with its traceback as `exc_info`.
Arguments are in none of it, and the exception's text in the traceback only.
"""

from __future__ import annotations

from typing import Any

from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.states import ErrorCode, Status

logger = get_logger("rail_async_tasks.failures")


def log_fields(
    snapshot: TaskSnapshot, seconds: float | None = None, trace_id: str | None = None
) -> dict[str, Any]:
    """Returns the facts of a line about a task, as attributes of its record."""
    fields = {
        "task_id": str(snapshot.id),
        "task_name": snapshot.name,
        "queue": snapshot.queue,
        "owner_id": snapshot.owner_id,
        "attempt": snapshot.attempts,
        "status": str(snapshot.status),
        "error_code": snapshot.error_code,
        "error_type": snapshot.error_type,
    }
    if trace_id is not None:
        fields["trace_id"] = trace_id
    return fields if seconds is None else {**fields, "seconds": round(seconds, 6)}


class FailureLog:
    """Logs what `Announcer` reports, in any thread. Never raises.

    Args:
        enabled: the setting `log_failures`.
        waits: a retry waits for its delay; under the `sync` backend it begins at once.
    """

    __slots__ = ("_enabled", "_waits")

    def __init__(self, *, enabled: bool = True, waits: bool = True) -> None:
        self._enabled = enabled
        self._waits = waits

    def failed(
        self,
        snapshot: TaskSnapshot,
        cause: BaseException | None = None,
        trace_id: str | None = None,
    ) -> None:
        """Logs a failure, unless the state is another one. `cause` is the body's exception."""
        if not self._enabled:
            return
        if snapshot.status == Status.FAILED:
            logger.error(
                "Task %s (%s) failed: %s, attempt %s",
                snapshot.name, snapshot.id, _reason(snapshot), _attempt(snapshot),
                exc_info=cause, extra=log_fields(snapshot, trace_id=trace_id),
            )  # fmt: skip
        elif snapshot.status == Status.RETRYING and snapshot.error_code is not None:
            logger.warning(
                "Task %s (%s) will be retried %s: %s, attempt %s",
                snapshot.name, snapshot.id, self._when(snapshot), _reason(snapshot),
                _attempt(snapshot), exc_info=cause, extra=log_fields(snapshot, trace_id=trace_id),
            )  # fmt: skip

    def lost(self, snapshot: TaskSnapshot) -> None:
        """Logs that the execution, which runs again, was lost with its process."""
        if self._enabled:
            logger.warning(
                "Task %s (%s) will be run again at once: %s, attempt %s",
                snapshot.name, snapshot.id, ErrorCode.WORKER_LOST.value, _attempt(snapshot),
                extra={**log_fields(snapshot), "error_code": ErrorCode.WORKER_LOST.value},
            )  # fmt: skip

    def _when(self, snapshot: TaskSnapshot) -> str:
        if snapshot.run_after is None or not self._waits:
            return "at once"
        seconds = (snapshot.run_after - snapshot.updated_at).total_seconds()
        return f"in {seconds:.1f} s"


def _reason(snapshot: TaskSnapshot) -> str:
    code, name = str(snapshot.error_code), snapshot.error_type
    if snapshot.error_code == ErrorCode.EXCEPTION and name is not None:
        return f"{code} {name}"
    if snapshot.error_code == ErrorCode.INVALID_ARGS:
        return f"{code} ({snapshot.error})"  # the package's own text: names and types, no values
    return code


def _attempt(snapshot: TaskSnapshot) -> str:
    """Returns the number of the attempt, and of how many if all of them fail."""
    if snapshot.attempts == 0:
        return "0: it has not begun"
    left = max(snapshot.max_retries - snapshot.retry_count, 0)
    if snapshot.status == Status.RETRYING:
        return f"{snapshot.attempts} of {snapshot.attempts + 1 + left}"
    if left:
        return f"{snapshot.attempts} of {snapshot.attempts + left}, which is not retried"
    return f"{snapshot.attempts} of {snapshot.attempts}"
