"""Attempts of this process whose outcome is not stored yet, those that have ended included."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any
from uuid import UUID

import msgspec

from rail_async_tasks.runtime.activity import Activity
from rail_async_tasks.runtime.attempts.attempt import Attempt
from rail_async_tasks.runtime.attempts.outcomes import Interruption


class Running:
    """Attempts whose outcome is not stored yet, by execution id. On the runtime's loop.

    An attempt that has ended stays until the ledger has stored its outcome.
    """

    def __init__(self, activity: Activity | None = None) -> None:
        self.activity = activity or Activity()
        self.by_id: dict[UUID, Attempt] = {}
        self._suspects = 0

    def add(self, attempt: Attempt) -> None:
        """Adds an attempt that begins."""
        self.activity.note()
        self.by_id[attempt.snapshot.id] = attempt
        self._suspects += attempt.suspect

    def remove(self, attempt: Attempt) -> None:
        """Removes an attempt whose outcome is stored, or never will be."""
        execution_id = attempt.snapshot.id
        if self.by_id.get(execution_id) is attempt:  # else it was claimed again already
            del self.by_id[execution_id]
        self._suspects -= attempt.suspect

    @property
    def any_suspect(self) -> bool:
        """Returns whether a crash suspect runs here: one that was lost as often as it may be."""
        return self._suspects > 0

    def by_owner(self, queue: str) -> dict[str, int]:
        """Counts the queue's attempts by owner; "" stands for no owner."""
        held = (it.snapshot for it in self.by_id.values())
        return Counter(it.owner_id or "" for it in held if it.queue == queue)

    def name_of(self, task: asyncio.Task[Any]) -> str:
        """Returns what a task of the loop runs, for the log. From any thread."""
        for attempt in list(self.by_id.values()):
            if attempt.runs_in(task):
                return f"the task {attempt.snapshot.name} ({attempt.snapshot.id})"
        return f"{task.get_name()} ({getattr(task.get_coro(), '__qualname__', '?')})"

    def cancel(self, execution_id: UUID) -> None:
        """Asks an attempt that runs here to end; the cancel is on its row already."""
        attempt = self.by_id.get(execution_id)
        if attempt is not None:
            attempt.snapshot = msgspec.structs.replace(attempt.snapshot, cancel_requested=True)
            attempt.interrupt(Interruption.CANCEL)

    def interrupt_all(self, why: Interruption, grace: float | None = None) -> None:
        """Asks every attempt to end; `grace` (seconds) replaces the setting's."""
        for attempt in list(self.by_id.values()):
            attempt.interrupt(why, grace)
