"""The tasks of a bulk change: all that fit its filter at the time of the confirmation.

A choice is frozen by its time `before`. It leaves out later tasks; a retry also leaves out tasks
that ended later. Ages in the filter count from `before`.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from uuid import UUID

from rail_async_tasks.dashboard.query import Query, WrongQuery, parse_query
from rail_async_tasks.dashboard.search import branches, find, rows_of
from rail_async_tasks.ledger.rows import clock
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.states import FINAL, UNFINISHED, Status

# Tasks of one read.
PAGE: Final = 200
# Limits of the count on the page of a bulk change.
MOST_COUNTED: Final = 10_000
COUNT_SECONDS: Final = 2.0

# The tasks that make bulk changes. No bulk change touches one of them.
BULK_RETRY: Final = "rail_async_tasks.bulk_retry"
BULK_CANCEL: Final = "rail_async_tasks.bulk_cancel"


@dataclass(frozen=True, slots=True)
class BulkChange:
    """A kind of bulk change.

    Attributes:
        states: the states in which it can be done.
        usual: the states chosen by a filter without `state:`.
        task: the name of the task that makes the change.
    """

    verb: str
    participle: str
    states: frozenset[Status]
    usual: frozenset[Status]
    task: str


RETRY: Final = BulkChange("retry", "retried", FINAL, frozenset({Status.FAILED}), BULK_RETRY)
CANCEL: Final = BulkChange("cancel", "cancelled", UNFINISHED, UNFINISHED, BULK_CANCEL)
CHANGES: Final = {it.verb: it for it in (RETRY, CANCEL)}


@dataclass(frozen=True, slots=True)
class Choice:
    """A filter, frozen for a bulk change: see the top of this module."""

    alias: str
    change: BulkChange
    query: Query
    before: datetime

    def pages(self) -> Iterator[list[TaskSnapshot]]:
        """Yields pages of tasks, newest first. A page has the tasks that fit as it is read."""
        after = None
        while True:
            found = find(self.alias, self._frozen(), after=after, limit=PAGE)
            if found.tasks:
                yield [it for it in found.tasks if self._is_of(it)]
            after = found.after or found.searched_to
            if after is None:
                return

    def total(self) -> int:
        """Counts all tasks that fit, also the ones to be passed over. For a background task."""
        query = self._frozen()
        return sum(rows_of(self.alias, query, it).count() for it in branches(query))

    def _frozen(self) -> Query:
        """Returns the filter for a read now: its ages count from `before`."""
        passed = max((clock(self.alias) - self.before).total_seconds(), 0.0)
        query = self.query
        younger = None if query.younger is None else query.younger + passed
        return replace(query, younger=younger, older=(query.older or 0.0) + passed)

    def _is_of(self, task: TaskSnapshot) -> bool:
        if task.name in {BULK_RETRY, BULK_CANCEL} or task.created_at > self.before:
            return False
        if self.change is RETRY:
            return task.completed_at is not None and task.completed_at <= self.before
        return True


def choose(alias: str, change: BulkChange, q: str, before: datetime) -> Choice:
    """Returns the choice of a filter.

    Raises:
        WrongQuery: the filter can't be understood, or names a state that can't be changed so.
    """
    query = parse_query(q)
    for state in query.states:
        if state not in change.states:
            raise WrongQuery(
                f"A {state} task can't be {change.participle}. Take state:{state} out of the"
                " filter."
            )
    states = query.states or tuple(sorted(change.usual))
    return Choice(alias, change, replace(query, states=states), before)


@dataclass(frozen=True, slots=True)
class Count:
    """How many tasks a bulk change would touch.

    Attributes:
        exact: False: there are more, or the time for counting ran out.
        passed_over: tasks that fit, but have a retry already.
        first: some of the tasks, newest first.
    """

    number: int
    exact: bool
    passed_over: int
    first: list[TaskSnapshot]


def count(choice: Choice, seconds: float = COUNT_SECONDS) -> Count:
    """Counts the tasks, as far as `MOST_COUNTED` and for so many seconds."""
    number, passed_over = 0, 0
    first: list[TaskSnapshot] = []
    deadline = time.monotonic() + seconds
    for tasks in choice.pages():
        open_ones = tasks
        if choice.change is RETRY:
            done = retried(choice.alias, [it.id for it in tasks])
            open_ones = [it for it in tasks if it.id not in done]
        passed_over += len(tasks) - len(open_ones)
        number += len(open_ones)
        first = (first + open_ones)[:5]
        if number > MOST_COUNTED:
            return Count(MOST_COUNTED, False, passed_over, first)
        if time.monotonic() > deadline:
            return Count(number, False, passed_over, first)
    return Count(number, True, passed_over, first)


def retried(alias: str, ids: Collection[UUID]) -> set[UUID]:
    """Returns the ids of tasks that have a retry."""
    if not ids:
        return set()
    rows = TaskExecution.objects.using(alias).filter(parent_id__in=ids).order_by()
    return {it for it in rows.values_list("parent_id", flat=True) if it is not None}
