"""Writes by an attempt: its progress and its outcome."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from rail_async_tasks.ledger.edges import PROGRESS, SETTLE
from rail_async_tasks.ledger.portable.table import Table, json_value
from rail_async_tasks.ledger.records import Outcome, Progress, Settled
from rail_async_tasks.ledger.rows import in_utc
from rail_async_tasks.ledger.updates import values_of
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.states import Status, settle


def settle_all(table: Table, outcomes: Sequence[Outcome]) -> list[Settled | None]:
    """Ends attempts; None for one that has changed no row."""
    held = table.locked_by_id(outcome.id for outcome in outcomes)
    settled: dict[int, Settled | None] = {}
    # In the order of ids, so that two processes never wait for each other in a ring.
    for outcome in sorted(outcomes, key=lambda it: it.id):
        row = held.get(outcome.id)
        mine = row is not None and row.token == outcome.token and row.status == Status.RUNNING
        settled[id(outcome)] = _end(table, row, outcome) if row is not None and mine else None
    return [settled[id(outcome)] for outcome in outcomes]


def _end(table: Table, row: TaskExecution, outcome: Outcome) -> Settled | None:
    status = settle(outcome.status, cancel_requested=row.cancel_requested)
    values = values_of(
        SETTLE[status],
        table.moment,
        progress=outcome.progress,
        progress_message=outcome.progress_message,
        result=None if outcome.result is None else json_value(outcome.result),
        error=outcome.error,
        error_code=outcome.error_code,
        error_type=outcome.error_type,
        error_place=outcome.error_place,
        traceback=outcome.traceback,
        retried=outcome.retried,
        delay=outcome.delay,
        ttl=outcome.ttl,
        callback_hold=outcome.callback_hold,
    )
    if not table.as_seen(row).update(**values):
        return None
    return Settled(
        status, row.seq + 1, table.at, in_utc(values["run_after"]), in_utc(values["expires_at"]),
        row.cancel_requested,
    )  # fmt: skip


def progress(table: Table, latest: dict[UUID, Progress]) -> None:
    """Stores the latest progress of each row."""
    # A row that another transaction has locked is left out: the next one, or the outcome, comes.
    for row in table.locked_by_id(latest).values():
        it = latest[row.id]
        if row.token == it.token:
            values = values_of(
                PROGRESS, table.moment, progress=it.progress, step=it.step,
                progress_message=it.progress_message,
            )  # fmt: skip
            table.as_seen(row).update(**values)
