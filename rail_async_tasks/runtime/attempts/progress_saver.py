"""Saves the progress of running attempts: twice a second, the latest of each."""

from __future__ import annotations

import asyncio
from uuid import UUID

from rail_async_tasks.ledger import port
from rail_async_tasks.ledger.records import Progress
from rail_async_tasks.runtime.attempts.attempt import Attempt
from rail_async_tasks.runtime.attempts.timings import ATTEMPT_TIMINGS, AttemptTimings


class ProgressSaver:
    """Hands unsaved progress to the ledger on a timer. On the runtime's loop."""

    def __init__(self, *, ledger: port.Attempts, timings: AttemptTimings = ATTEMPT_TIMINGS) -> None:
        self._ledger = ledger
        self._interval = timings.save_progress_every
        self._loop = asyncio.get_running_loop()
        self._unsaved: dict[UUID, Attempt] = {}
        self._timer: asyncio.TimerHandle | None = None

    def keep(self, attempt: Attempt) -> None:
        """The attempt has new progress, which its snapshot shows."""
        self._unsaved[attempt.snapshot.id] = attempt
        if self._timer is None:
            self._timer = self._loop.call_later(self._interval, self.save)

    def forget(self, execution_id: UUID) -> None:
        """The attempt has ended: its outcome carries the last progress."""
        self._unsaved.pop(execution_id, None)

    def save(self) -> None:
        """Hands over the latest progress of every attempt that has some."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        unsaved, self._unsaved = self._unsaved, {}
        for attempt in unsaved.values():
            snapshot = attempt.snapshot
            self._ledger.progress(
                Progress(
                    snapshot.id,
                    attempt.token,
                    snapshot.progress,
                    snapshot.progress_message,
                    snapshot.step,
                )
            )
