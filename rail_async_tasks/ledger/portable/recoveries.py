"""Recovery: frees the executions of a dead holder."""

from __future__ import annotations

from rail_async_tasks.ledger.edges import RECOVER
from rail_async_tasks.ledger.portable.table import Table
from rail_async_tasks.ledger.records import Recovery
from rail_async_tasks.ledger.rows import snapshot_of, snapshot_rows
from rail_async_tasks.ledger.updates import values_of
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.states import Status


def recover(table: Table, recovery: Recovery, limit: int) -> list[TaskSnapshot]:
    """Frees at most so many executions; returns them as they stand then."""
    held = table.rows().filter(status=Status.RUNNING, runtime_id=recovery.holder)
    freed = [
        row.id
        for row in table.locked(held.defer("arguments", "result").order_by("id")[:limit])
        if _free(table, row, recovery)
    ]
    return [snapshot_of(row) for row in snapshot_rows(table.alias).filter(id__in=freed)]


def _free(table: Table, row: TaskExecution, recovery: Recovery) -> bool:
    if row.cancel_requested:
        status = Status.CANCELLED
    elif row.rerun_on_crash and row.crashes < recovery.max_crashes:
        status = Status.RETRYING
    else:
        status = Status.FAILED
    values = values_of(
        RECOVER[status], table.moment, ttl=recovery.ttl, callback_hold=recovery.callback_hold
    )
    return bool(table.as_seen(row).update(**values))
