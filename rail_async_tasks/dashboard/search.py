"""Reads a page of the tasks that fit a filter, newest first, in bounded time.

No row is counted, and no filter reads more than a window of rows: an index leads to the newest
rows of a state or an owner, and of these at most `WINDOW` are compared with the rest of the filter.
Where a window ends before the page is full, `Found.searched_to` says how far the search came.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import product
from typing import Any, Final
from uuid import UUID

from django.db import connections
from django.db.models import Q, QuerySet, TextField
from django.db.models.functions import Cast
from django.utils import timezone

from rail_async_tasks.codec.encryption import MARK
from rail_async_tasks.dashboard.query import Query
from rail_async_tasks.ids import MAX_AHEAD, first_id_at
from rail_async_tasks.ledger.rows import now, snapshot_of, snapshot_rows, unexpired
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.registry import registry
from rail_async_tasks.rollups.error_places import NO_PLACE
from rail_async_tasks.service.read import all_freshest
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.states import Status

PAGE: Final = 50
# Rows that one page compares with a filter. In the order of ids they lie side by side. Those of a
# state or an owner lie scattered, each in a block of its own; texts are compared in several
# columns, one of them JSON: either costs about ten times as much.
WINDOW: Final = 50_000
SMALL_WINDOW: Final = 5_000
# Branches of one filter: each has its own look at an index.
MOST_BRANCHES: Final = 12

_TEXTS: Final = ("name", "progress_message", "error", "error_type", "owner_id", "queue")


@dataclass(frozen=True, slots=True)
class Found:
    """A page. `after` leads to the next one; `searched_to`: no further was it looked."""

    tasks: list[TaskSnapshot] = field(default_factory=list)
    after: UUID | None = None
    searched_to: UUID | None = None


@dataclass(frozen=True, slots=True)
class _Branch:
    """The part of a filter that an index answers."""

    state: str | None
    owner: str | None


def find(
    alias: str,
    query: Query,
    *,
    after: UUID | None = None,
    limit: int = PAGE,
    window: int | None = None,
) -> Found:
    """Returns the newest tasks that fit, those after the task `after`."""
    found: dict[UUID, TaskSnapshot] = {}
    searched_to: UUID | None = None
    for branch in branches(query):
        most = window_of(query, branch) if window is None else window
        rows, end = _rows(alias, query, branch, after, limit, most)
        if end is not None and len(rows) <= limit:
            searched_to = end if searched_to is None else max(searched_to, end)
        found.update((row.id, snapshot_of(row)) for row in rows)
    newest = sorted(found.values(), key=lambda it: it.id, reverse=True)
    if searched_to is not None:  # what is older of one branch may lack its neighbours of another
        newest = [it for it in newest if it.id >= searched_to]
    tasks = all_freshest(newest[:limit])
    more = len(newest) > limit
    return Found(
        tasks,
        after=newest[limit - 1].id if more else None,
        searched_to=None if more else searched_to,
    )


def count_newer(alias: str, query: Query, than: UUID, most: int) -> int:
    """Counts the tasks that fit and are newer than a task; counts no further than `most`."""
    newer = _fitting(alias, query).filter(id__gt=than)
    # Of the newer ones too, no more than a window is looked at.
    since = newer.model.objects.using(alias).filter(id__gt=than).order_by("id")
    end = since.values_list("id", flat=True)[WINDOW : WINDOW + 1].first()
    if end is not None:
        newer = newer.filter(id__lt=end)
    if query.states:
        newer = newer.filter(status__in=query.states)
    if query.owners:
        newer = newer.filter(owner_id__in=query.owners)
    return newer.order_by()[:most].count()


def branches(query: Query) -> list[_Branch]:
    """Returns the parts of the filter that are read one by one, each in an index's order."""
    states: Sequence[str | None] = query.states
    if (query.errors or query.places) and not states:  # only these have one
        states = (Status.FAILED, Status.RETRYING)
    owners: Sequence[str | None] = query.owners
    states, owners = list(dict.fromkeys(states)), list(dict.fromkeys(owners))
    if len(states or [0]) * len(owners or [0]) > MOST_BRANCHES:
        owners = []
    return [_Branch(state, owner) for state, owner in product(states or [None], owners or [None])]


def window_of(query: Query, branch: _Branch) -> int:
    """Returns how many rows of a branch are compared."""
    if query.words or branch.state is not None or branch.owner is not None:
        return SMALL_WINDOW
    return WINDOW


def rows_of(alias: str, query: Query, branch: _Branch) -> QuerySet[TaskExecution]:
    """Returns the rows that fit, of one branch, newest first."""
    rows = _fitting(alias, query)
    if branch.state is not None:
        rows = rows.filter(status=branch.state)
    if branch.owner is not None:
        rows = rows.filter(owner_id=branch.owner)
    elif query.owners:
        rows = rows.filter(owner_id__in=query.owners)
    return rows.order_by("-id")


def _rows(
    alias: str, query: Query, branch: _Branch, after: UUID | None, limit: int, window: int
) -> tuple[list[TaskExecution], UUID | None]:
    """Returns one row more than `limit`, if there is, and where the window ends."""
    rows = rows_of(alias, query, branch)
    if after is not None:
        rows = rows.filter(id__lt=after)
    end = None
    if _compares(query, branch):
        newest = _newest(alias, query, branch, after)
        end = newest[window - 1 : window].first()
        if end is not None:
            rows = rows.filter(_within(newest[:window], end, branch))
    return list(rows[: limit + 1]), end


def _compares(query: Query, branch: _Branch) -> bool:
    """Returns whether rows must be read that may not fit."""
    if _is_at_places(query):
        rest = Query(ids=query.ids, younger=query.younger, older=query.older)
        rest.states, rest.owners = query.states, query.owners
        rest.errors, rest.places = query.errors, query.places  # one place has rows of one error
        return query != rest
    if branch.state is not None and branch.owner is not None:
        return True
    rest = Query(ids=query.ids, younger=query.younger, older=query.older)
    rest.states, rest.owners = query.states, query.owners if branch.owner is not None else ()
    return query != rest


def _is_at_places(query: Query) -> bool:
    """Returns whether an index leads to the rows of the places that the filter names."""
    return bool(query.places) and NO_PLACE not in query.places


def _newest(alias: str, query: Query, branch: _Branch, after: UUID | None) -> QuerySet[Any, UUID]:
    """Returns the ids of the rows among which is looked, newest first."""
    rows = TaskExecution.objects.using(alias).filter(_in_time(query))
    if _is_at_places(query):
        rows = rows.filter(error_place__in=query.places)
    elif branch.owner is not None:
        rows = rows.filter(owner_id=branch.owner)
    elif branch.state is not None:
        rows = rows.filter(status=branch.state)
    if after is not None:
        rows = rows.filter(id__lt=after)
    return rows.order_by("-id").values_list("id", flat=True)


def _within(window: QuerySet[Any, UUID], end: UUID, branch: _Branch) -> Q:
    """Returns the condition on ids that a window sets.

    The rows of a state or an owner lie scattered. By the window's end alone the database would
    read all rows in between: of failed tasks twenty times as many, or a thousand times.
    """
    scattered = branch.state is not None or branch.owner is not None
    if scattered and connections[window.db].features.allow_sliced_subqueries_with_in:
        return Q(id__in=window)
    return Q(id__gte=end)


def _in_time(query: Query) -> Q:
    """Returns the condition on ids that the ages and ids of a filter imply."""
    condition, at = Q(), timezone.now().timestamp()
    if query.younger is not None:
        condition &= Q(id__gte=first_id_at(at - query.younger - MAX_AHEAD))
    if query.older is not None:
        condition &= Q(id__lte=first_id_at(at - query.older + MAX_AHEAD))
    if query.ids:
        spans = Q()
        for span in query.ids:
            spans |= Q(id__gte=span.first, id__lte=span.last)
        condition &= spans
    return condition


def _fitting(alias: str, query: Query) -> QuerySet[TaskExecution]:
    """Returns the rows that fit, but for states and owners."""
    rows = snapshot_rows(alias).defer("arguments", "traceback", "language", "result")
    rows = rows.filter(unexpired(alias), _in_time(query))
    if query.queues:
        rows = rows.filter(queue__in=query.queues)
    if query.names:
        rows = rows.filter(_any("name__icontains", query.names))
    if query.errors:
        rows = rows.filter(Q(error_type__in=query.errors) | Q(error_code__in=query.errors))
    if query.places:
        rows = rows.filter(_at_places(query.places))
    if query.parents:
        rows = rows.filter(parent_id__in=query.parents)
    if query.younger is not None:
        rows = rows.filter(created_at__gt=now(alias) - timedelta(seconds=query.younger))
    if query.older is not None:
        rows = rows.filter(created_at__lte=now(alias) - timedelta(seconds=query.older))
    if query.words:
        rows = rows.alias(arguments_text=Cast("arguments", TextField()))
    for word in query.words:
        somewhere = Q(arguments_text__icontains=word) & _all_arguments_are_shown()
        for column in _TEXTS:
            somewhere |= Q(**{f"{column}__icontains": word})
        rows = rows.filter(somewhere)
    return rows


def _all_arguments_are_shown() -> Q:
    """Returns the condition that no argument is redacted: a comparison would tell it in parts."""
    hiding = [it.name for it in registry.definitions() if it.options.sensitive]
    return ~Q(name__in=hiding) & ~Q(arguments_text__contains=f'"{MARK}"')


def _at_places(places: Sequence[str]) -> Q:
    condition = Q(error_place__in=[it for it in places if it != NO_PLACE])
    return condition | Q(error_place__isnull=True) if NO_PLACE in places else condition


def _any(lookup: str, values: Sequence[str]) -> Q:
    condition = Q()
    for value in values:
        condition |= Q(**{lookup: value})
    return condition
