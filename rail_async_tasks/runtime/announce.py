"""Announces state changes: publishes and logs them, calls observers and failure callbacks.

A change is announced after its commit. Watchers re-read rows, so a bus that fails loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

from rail_async_tasks.conf import TaskSettings
from rail_async_tasks.runtime.failure_log import FailureLog
from rail_async_tasks.runtime.observers import Observers, observers_for
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.states import ErrorCode, Status

logger = get_logger("rail_async_tasks.runtime")


class Publisher(Protocol):
    """The part of a bus that the announcer uses."""

    def publish(self, snapshot: TaskSnapshot) -> None: ...


# Is called with an execution that has failed for good, and its traceback.
OnFailure: TypeAlias = Callable[[TaskSnapshot, str | None], None]


class Announcer:
    """One method per event. Never raises for the bus or an observer. From any thread.

    Args:
        bus: where changes are published.
        observers: the observers that the settings ask for.
        log: where failures are logged.
        on_failure: where failures for good go; None: nowhere.
        emits: the setting `emit_subscriptions`; without it nothing is published.
    """

    __slots__ = ("_bus", "_log", "_observers", "_on_failure", "emits")

    def __init__(
        self,
        *,
        bus: Publisher,
        observers: Observers,
        log: FailureLog,
        on_failure: OnFailure | None = None,
        emits: bool = True,
    ) -> None:
        self._bus = bus
        self._observers = observers
        self._log = log
        self._on_failure = on_failure
        self.emits = emits

    def enqueued(self, snapshot: TaskSnapshot) -> None:
        """A new execution is stored, and waits."""
        self._observers.enqueued(snapshot)
        self._publish(snapshot)

    def enqueued_as_claim(self, snapshot: TaskSnapshot) -> None:
        """A new execution is stored as running; `started` publishes it."""
        self._observers.enqueued(snapshot)

    def started(self, snapshot: TaskSnapshot) -> None:
        """An attempt begins here."""
        self._publish(snapshot)
        self._observers.started(snapshot)

    def progressed(self, snapshot: TaskSnapshot) -> None:
        """An attempt here has reported progress."""
        self._publish(snapshot)

    def slow(self, snapshot: TaskSnapshot, seconds: float) -> None:
        """An attempt here takes longer than `slow_task_threshold_seconds`."""
        self._observers.slow(snapshot, seconds)

    def settled(
        self,
        snapshot: TaskSnapshot,
        seconds: float,
        traceback: str | None,
        cause: BaseException | None = None,
        trace_id: str | None = None,
    ) -> None:
        """The outcome of an attempt here is stored. `seconds` is how long its body took.

        `cause` is the exception that the attempt failed by, if there is one; `trace_id` is for the
        log.
        """
        self._publish(snapshot)
        self._observers.ended(snapshot, seconds, traceback)
        if snapshot.status != Status.COMPLETED:
            self._failed(snapshot, traceback, cause, trace_id)

    def dropped(self, snapshot: TaskSnapshot, seconds: float) -> None:
        """The outcome of an attempt here was not stored; `snapshot` is still running."""
        self._observers.dropped(snapshot, seconds)

    def changed(self, snapshot: TaskSnapshot) -> None:
        """An execution was changed by other means than an attempt here.

        It was cancelled, recovered from a dead process, or failed for want of its task.
        """
        self._publish(snapshot)
        if snapshot.status == Status.RETRYING or snapshot.error_code == ErrorCode.WORKER_LOST:
            self._observers.lost(snapshot)
        if snapshot.is_final:
            self._observers.ended(snapshot, None, None)
            self._failed(snapshot, None, None)
        elif snapshot.status == Status.RETRYING:
            self._log.lost(snapshot)

    def _failed(
        self,
        snapshot: TaskSnapshot,
        traceback: str | None,
        cause: BaseException | None,
        trace_id: str | None = None,
    ) -> None:
        self._log.failed(snapshot, cause, trace_id)
        if snapshot.status == Status.FAILED and self._on_failure is not None:
            self._on_failure(snapshot, traceback)

    def _publish(self, snapshot: TaskSnapshot) -> None:
        if self.emits:
            try:
                self._bus.publish(snapshot)
            except Exception:  # watchers re-read the row; the task must go on
                logger.exception("An event of task %s could not be published", snapshot.id)


def announcer_for(
    settings: TaskSettings, bus: Publisher, on_failure: OnFailure | None = None
) -> Announcer:
    """Returns the announcer that these settings ask for.

    Raises:
        ConfigurationError: an observer can't be had, for example for want of a package.
    """
    return Announcer(
        bus=bus,
        observers=observers_for(settings),
        log=FailureLog(enabled=settings.log_failures, waits=settings.backend != "sync"),
        on_failure=on_failure,
        emits=settings.emit_subscriptions,
    )
