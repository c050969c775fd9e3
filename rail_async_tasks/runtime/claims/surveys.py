"""Surveys of the ledger: one statement finds the queues in which rows wait, announced or not."""

from __future__ import annotations

from collections.abc import Callable

from rail_async_tasks.ledger.port import Surveys
from rail_async_tasks.runtime.claims.pauses import Pauses
from rail_async_tasks.runtime.due import Due


class Surveyor:
    """Makes the survey when it is due. On the runtime's loop; of the dispatcher.

    Args:
        queues: returns the queues that are served here.
    """

    def __init__(
        self, *, ledger: Surveys, due: Due, pauses: Pauses, queues: Callable[[], list[str]]
    ) -> None:
        self._ledger = ledger
        self._due = due
        self._pauses = pauses
        self._queues = queues

    async def survey(self) -> None:
        """Has the dispatcher expect what waits. Raises the ledger's errors."""
        due, learn = self._due, self._pauses.ask()
        with due.surveying():
            found = await self._ledger.survey(self._queues())
        learn(found.paused)
        if found.next_due is not None:
            due.due_in(max(found.next_due, 0.0))
        # What waits in a paused queue is found when the pause ends, as the pause is.
        waiting = found.waiting - found.paused
        for queue in waiting:
            due.expect_in(queue)
        due.surveyed(found=bool(waiting))
