"""Audit rows, in the transaction of the changes that they record."""

from __future__ import annotations

from collections.abc import Iterable

from rail_async_tasks.ledger.audit import Event
from rail_async_tasks.ledger.portable.table import Table
from rail_async_tasks.models import TaskEvent, TaskExecution


def record(table: Table, events: Iterable[Event]) -> None:
    """Stores the events that are not stored yet and whose execution exists."""
    wanted = list(events)
    ids = {event.execution_id for event in wanted}
    stored = TaskEvent.objects.using(table.alias)
    before = set(stored.filter(execution_id__in=ids).values_list("execution_id", "seq", "reason"))
    rows = table.rows().filter(id__in=ids).only("id", "name", "owner_id", "tenant_id", "attempts")
    executions = {row.id: row for row in rows}
    stored.bulk_create(
        _row_of(table, event, execution)
        for event in wanted
        if (event.execution_id, event.seq, event.reason) not in before
        and (execution := executions.get(event.execution_id)) is not None
    )


def _row_of(table: Table, event: Event, execution: TaskExecution) -> TaskEvent:
    return TaskEvent(
        id=event.id,
        execution_id=event.execution_id,
        name=execution.name,
        owner_id=execution.owner_id,
        tenant_id=execution.tenant_id,
        seq=event.seq,
        from_status=event.from_status,
        to_status=event.to_status,
        attempt=0 if event.from_status is None else execution.attempts,
        at=table.moment.now,
        actor=event.actor,
        reason=event.reason,
    )
