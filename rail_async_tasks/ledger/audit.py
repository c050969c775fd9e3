"""Audit rows: each change of state, and its cause. Pure; the ledger stores them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from uuid import NAMESPACE_URL, UUID, uuid5

import msgspec

from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.records import Claimed, Created, NewExecution, Outcome, Settled
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.states import Status


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One change. Name, owner, tenant and attempt are taken from the execution's row."""

    id: UUID
    execution_id: UUID
    seq: int
    from_status: str | None
    to_status: str
    actor: str | None
    reason: str


def _event(
    execution_id: UUID, seq: int, before: str | None, after: str, actor: str | None, reason: str
) -> Event:
    return Event(
        id=new_id(), execution_id=execution_id, seq=seq, from_status=before, to_status=after,
        actor=actor, reason=reason,
    )  # fmt: skip


def process(runtime_id: UUID | None) -> str:
    """Returns the name of a runtime as the actor of a change."""
    return "runtime" if runtime_id is None else f"runtime:{runtime_id}"


def queue_id(queue: str) -> UUID:
    """Returns the id under which the pauses of a queue are recorded, in an execution's place."""
    return uuid5(NAMESPACE_URL, f"rail_async_tasks/queues/{queue}")


def of_creations(made: Iterable[tuple[NewExecution, Created]]) -> Iterator[Event]:
    """Yields creations, and the claims that some of them are at the same time."""
    for new, created in made:
        if created.existing is not None:
            continue
        yield _event(new.id, 1, None, Status.PENDING, new.actor, "created")
        if new.token is not None:
            actor = process(new.runtime_id)
            yield _event(new.id, 2, Status.PENDING, Status.RUNNING, actor, "claimed")


def of_claims(claimed: Iterable[Claimed], runtime_id: UUID) -> Iterator[Event]:
    """Yields claims by a runtime."""
    for it in claimed:
        snapshot = it.snapshot
        before = Status.PENDING if snapshot.attempts == 1 else Status.RETRYING
        actor = process(runtime_id)
        yield _event(snapshot.id, snapshot.seq, before, Status.RUNNING, actor, "claimed")


def of_outcomes(ended: Iterable[tuple[Outcome, Settled | None]]) -> Iterator[Event]:
    """Yields the ends of attempts; none for an outcome that changed no row."""
    for outcome, settled in ended:
        if settled is None:
            continue
        status = settled.status
        if status is Status.RETRYING:
            reason = "retrying" if outcome.retried else "handed_back"
        elif status is Status.FAILED:
            reason = outcome.error_code or "failed"
        else:
            reason = status.value
        yield _event(outcome.id, settled.seq, Status.RUNNING, status, "runtime", reason)


def of_recoveries(freed: Iterable[TaskSnapshot]) -> Iterator[Event]:
    """Yields executions that were freed from a dead holder."""
    for snapshot in freed:
        reason = "worker_lost"
        yield _event(snapshot.id, snapshot.seq, Status.RUNNING, snapshot.status, "recovery", reason)


def of_unknown(failed: Iterable[TaskSnapshot]) -> Iterator[Event]:
    """Yields executions that failed because no process knows their task."""
    for snapshot in failed:
        before = Status.RETRYING if snapshot.attempts else Status.PENDING
        yield _event(snapshot.id, snapshot.seq, before, snapshot.status, "runtime", "unknown_task")


def of_cancel(snapshot: TaskSnapshot, actor: str | None) -> Event:
    """Returns the event of a cancel that changed the row, from the row after it."""
    if snapshot.status == Status.RUNNING:
        before, reason = Status.RUNNING, "cancel_requested"
    else:
        before = Status.RETRYING if snapshot.attempts else Status.PENDING
        reason = "cancelled"
    return _event(snapshot.id, snapshot.seq, before, snapshot.status, actor, reason)
