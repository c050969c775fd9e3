"""The ledger's clock, and corrections of times that it stored while it was ahead.

A retry, an expiry or a lease at such a time would not come until the clock shows the time again.
Each correction is a guarded UPDATE.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import connections, transaction
from django.db.models import F, Q, QuerySet

from rail_async_tasks.ledger.orm.part import OrmPart
from rail_async_tasks.ledger.records import INLINE_HOLDER, LONGEST_DELAY_LATE, TOLERANCE
from rail_async_tasks.ledger.rows import clock, storable
from rail_async_tasks.models import TaskExecution, TaskRuntime
from rail_async_tasks.states import FINAL, WAITING, Status

# Rows of one kind that one call corrects.
PAGE: Final = 500


class OrmClock(OrmPart):
    """See `upkeep.Clock`."""

    async def now(self) -> datetime:
        return await self._threads.run(lambda: clock(self.alias))

    async def correct_times(self, ttl: float | None, hold: float) -> int:
        return await self._threads.run_once(lambda: correct(self.alias, ttl, hold))


def correct(alias: str, ttl: float | None, hold: float) -> int:
    """Corrects at most `PAGE` rows of each kind; returns how many.

    Args:
        ttl: `result_ttl_seconds`: no row expires later than that after its end.
        hold: no failure callback is reserved for its process for longer, in seconds.
    """
    at = clock(alias)
    rows = TaskExecution.objects.using(alias)
    now, late = storable(at), storable(at + TOLERANCE)
    held_until = storable(at + timedelta(seconds=hold))
    sent = rows.filter(status__in=sorted(WAITING))
    inline = rows.filter(status=Status.RUNNING, runtime_id=INLINE_HOLDER)
    return (
        _delayed(rows, at)
        + (0 if ttl is None else _expiring(rows, at, timedelta(seconds=ttl)))
        + _leases(alias, at)
        + _set(rows, "callback_at", held_until, held_until)
        + _set(sent, "dispatched_at", late, now)  # it is under way since now
        + _set(inline, "started_at", late, now)
    )


def _set(rows: QuerySet[TaskExecution], column: str, latest: datetime, to: datetime) -> int:
    """Sets times that are later than they may be; returns of how many rows."""
    wrong = rows.filter(**{f"{column}__gt": latest})
    return _each(wrong, lambda row: {column: to})


def _delayed(rows: QuerySet[TaskExecution], at: datetime) -> int:
    """Shifts retries and delays: as long from now as they were stored to wait."""
    late = storable(at + TOLERANCE)
    wrong = rows.filter(status__in=sorted(WAITING), run_after__gt=late, updated_at__gt=late)
    wrong = wrong.filter(
        Q(status=Status.RETRYING)
        | Q(created_at__gt=storable(at + LONGEST_DELAY_LATE), run_after__gte=F("created_at"))
    )
    return _each(
        wrong,
        lambda row: {
            "run_after": storable(at + _between(row.updated_at, row.run_after)),
            "updated_at": storable(at),
        },
    )


def _expiring(rows: QuerySet[TaskExecution], at: datetime, ttl: timedelta) -> int:
    """Keeps a final row for as long as was meant, from now on."""
    latest, late = storable(at + ttl + TOLERANCE), storable(at + TOLERANCE)
    wrong = rows.filter(status__in=sorted(FINAL), expires_at__gt=latest, completed_at__gt=late)

    def right(row: TaskExecution) -> dict[str, Any]:
        return {"expires_at": storable(at + min(_between(row.completed_at, row.expires_at), ttl))}

    return _each(wrong, right)


def _leases(alias: str, at: datetime) -> int:
    """Shifts leases: a live process renews its own at once; a dead one's must lapse."""
    late = storable(at + TOLERANCE)
    wrong = TaskRuntime.objects.using(alias).filter(dead=False, renewed_at__gt=late)
    return _each(
        wrong,
        lambda row: {
            "renewed_at": storable(at),
            "lapses_at": storable(at + _between(row.renewed_at, row.lapses_at)),
        },
    )


def _each(wrong: QuerySet[Any], right: Callable[[Any], dict[str, Any]]) -> int:
    """Updates each of these rows; those locked by another transaction are left for later."""
    if not wrong.exists():  # a transaction on SQLite takes the one write lock
        return 0
    count = 0
    with transaction.atomic(using=wrong.db):
        if connections[wrong.db].features.has_select_for_update_skip_locked:
            found = wrong.select_for_update(skip_locked=True)
        else:
            found = wrong
        for row in found[:PAGE]:
            # What has changed since it was read is right already.
            count += wrong.filter(pk=row.pk).update(**right(row))
    return count


def _between(stored: datetime | None, until: datetime | None) -> timedelta:
    """Returns how long after `stored` a row was to change; never less than nothing."""
    assert stored is not None
    assert until is not None
    return max(until - stored, timedelta(0))
