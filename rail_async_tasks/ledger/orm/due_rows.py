"""Due rows of a queue by their dispatches: not sent yet, under way, and sent too long ago."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any

from django.db.models import Q, QuerySet

from rail_async_tasks.ledger.rows import storable
from rail_async_tasks.models import TaskExecution

# An execution that was dispatched so many seconds ago is dispatched again; each time this doubles.
FIRST_BOUND = 60.0
DOUBLINGS = 6
# The same where the broker can be asked which ids it has.
ASK_DOUBLINGS = 3


class DueRows:
    """The due rows of one queue: not sent yet, sent too long ago, and under way."""

    def __init__(self, rows: QuerySet[TaskExecution], at: datetime) -> None:
        self.at = at
        self._sent = rows.filter(dispatched_at__isnull=False)
        self.fresh = rows.filter(dispatched_at__isnull=True)
        self.late = rows.filter(_overdue(at))

    def any(self) -> bool:
        """Returns whether there is something to send."""
        return self.fresh.exists() or self.late.exists()

    def under_way(self, at_most: int) -> int:
        """Counts what is under way, no further than `at_most`."""
        return self._sent.order_by()[:at_most].count()


def _overdue(at: datetime) -> Q:
    """Returns the condition for dispatches of so long ago that they must have been lost."""
    return dispatched_before(at, FIRST_BOUND, DOUBLINGS)


def dispatched_before(at: datetime, first: float, doublings: int) -> Q:
    """Returns the condition for dispatches older than `first` seconds, doubled per dispatch."""

    def before(number: int) -> Any:
        return storable(at - timedelta(seconds=first * 2.0 ** (number - 1)))

    bounds = [
        Q(dispatches=number, dispatched_at__lt=before(number)) for number in range(1, doublings + 1)
    ]
    most = Q(dispatches__gt=doublings, dispatched_at__lt=before(doublings + 1))
    return reduce(or_, bounds, most)
