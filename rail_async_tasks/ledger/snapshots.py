"""Builds snapshots from records that a ledger has written. Pure, without a read."""

from __future__ import annotations

import msgspec

from rail_async_tasks.ledger.records import Created, CreatedMany, NewExecution, Outcome, Settled
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.states import Status


def as_created(new: NewExecution, created: Created) -> TaskSnapshot:
    """Returns the execution at its creation: pending, even where the commit also claimed it."""
    return TaskSnapshot(
        id=new.id,
        name=new.name,
        status=Status.PENDING,
        queue=new.queue,
        priority=new.priority,
        created_at=created.at,
        updated_at=created.at,
        max_retries=new.max_retries,
        owner_id=new.owner_id,
        tenant_id=new.tenant_id,
        parent_id=new.parent_id,
        run_after=created.run_after,
    )


def add_created(made: CreatedMany, new: NewExecution, created: Created) -> None:
    """Adds one row's result to that of many."""
    if created.existing is None:
        snapshot = as_created(new, created)
        made.fresh.append(snapshot)
        made.stored.append(snapshot)
    else:
        made.stored.append(created.existing)


def as_settled(before: TaskSnapshot, outcome: Outcome, settled: Settled) -> TaskSnapshot:
    """Returns the execution after an accepted outcome, as a reader of the row would find it."""
    status = settled.status
    cancelled = status is Status.CANCELLED
    return msgspec.structs.replace(
        before,
        status=status,
        seq=settled.seq,
        step=0,
        progress=100 if status is Status.COMPLETED else outcome.progress,
        progress_message=outcome.progress_message,
        result=None if outcome.result is None else msgspec.json.decode(outcome.result),
        error=None if cancelled else outcome.error,
        error_code="cancelled" if cancelled else outcome.error_code,
        error_type=None if cancelled else outcome.error_type,
        retry_count=before.retry_count + (outcome.retried if status is Status.RETRYING else 0),
        cancel_requested=settled.cancel_requested,
        updated_at=settled.at,
        run_after=settled.run_after,
        completed_at=None if status is Status.RETRYING else settled.at,
        expires_at=settled.expires_at,
    )
