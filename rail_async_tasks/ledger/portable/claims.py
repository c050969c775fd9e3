"""Claims: staging, and rows of one queue in the order in which they are to start."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection
from uuid import UUID

from django.db.models import Min, QuerySet

from rail_async_tasks.ledger.edges import CLAIM, STAGE
from rail_async_tasks.ledger.locks import unlocked
from rail_async_tasks.ledger.operations import Claim
from rail_async_tasks.ledger.portable.table import Table
from rail_async_tasks.ledger.records import Claimed, QueueClaim, Survey
from rail_async_tasks.ledger.rows import claimed_of, in_utc, snapshot_rows
from rail_async_tasks.ledger.updates import values_of
from rail_async_tasks.models import QueueState, TaskExecution
from rail_async_tasks.states import WAITING, Status

# Delayed rows that one UPDATE makes due.
MOST_STAGED = 1000
# Owners that one claim reads, each by a query.
MOST_OWNERS = 50


def next_due(table: Table, *, later: bool) -> float | None:
    """Returns the seconds until the first delayed row is due; `later`: of those not yet due."""
    rows = table.rows()
    if later and table.skips_locked:
        rows = rows.filter(run_after__gt=table.moment.now)
    first = in_utc(rows.aggregate(first=Min("run_after"))["first"])
    return None if first is None else (first - table.at).total_seconds()


def survey(table: Table, queues: Collection[str]) -> Survey:
    """Returns in which of these queues rows are due, the next delayed one, and paused queues."""
    due = table.rows().filter(status__in=sorted(WAITING), run_after__isnull=True)
    paused = QueueState.objects.using(table.alias).filter(paused_at__isnull=False)
    return Survey(
        waiting=frozenset(queue for queue in queues if due.filter(queue=queue).exists()),
        next_due=next_due(table, later=False),
        paused=frozenset(paused.values_list("name", flat=True)),
    )


def stage(table: Table) -> None:
    """Clears `run_after` where its time has come."""
    come = table.rows().filter(run_after__lte=table.moment.now)
    staged = values_of(STAGE, table.moment)
    if not table.skips_locked:
        come.update(**staged)
        return
    while ids := list(unlocked(come).values_list("id", flat=True)[:MOST_STAGED]):
        table.rows().filter(id__in=ids).update(**staged)


def claim(table: Table, op: Claim, part: QueueClaim) -> list[Claimed]:
    """Claims rows of one queue."""
    candidates = _candidates(table, part)
    taken = values_of(CLAIM, table.moment, runtime_id=op.plan.runtime_id, token=op.token)
    waiting = table.rows().filter(status__in=sorted(WAITING))
    ids = [row.id for row in candidates]
    if table.skips_locked:  # they are ours until the end of the transaction
        waiting.filter(id__in=ids).update(**taken)
    else:
        ids = [
            row.id for row in candidates if waiting.filter(id=row.id, seq=row.seq).update(**taken)
        ]
    if not ids:
        return []
    rows = snapshot_rows(table.alias).defer(None).defer("traceback")
    mine = rows.filter(id__in=ids, token=op.token, status=Status.RUNNING)
    return [
        claimed_of(row, op.token, suspect=part.suspect) for row in mine.order_by("-priority", "id")
    ]


def _candidates(table: Table, part: QueueClaim) -> list[TaskExecution]:
    """Returns the rows that the claim is to take: locked, where that can be skipped."""
    due = table.rows().filter(queue=part.queue, run_after__isnull=True, name__in=part.names)
    if part.suspect:
        due = due.filter(crashes__gt=0, crashes__gte=part.crashes)
    else:
        due = due.filter(crashes__lt=part.crashes)
    if part.running is None:
        found = [row for rows in _first(due, part.limit) for row in table.locked(rows)]
        return sorted(found, key=_place)[: part.limit]
    chosen = [row.id for row in _fairly(table, part, due, part.running)]
    still = due.filter(id__in=chosen, status__in=sorted(WAITING)).order_by("id")
    return sorted(table.locked(still), key=_place)


def _fairly(
    table: Table, part: QueueClaim, due: QuerySet[TaskExecution], running: dict[str, int]
) -> list[TaskExecution]:
    """Returns the first by priority; within one, owners who have few running go first.

    Rows that the claim takes count as running. Of more than `MOST_OWNERS` owners some are drawn;
    the first rows of all owners are always among the candidates.
    """
    owners = list(_owners(table, part.queue))
    share = part.limit // max(len(owners), 1) + 1
    if len(owners) > MOST_OWNERS:
        random.shuffle(owners)
        owners = sorted(owners, key=lambda it: running.get(it or "", 0))[:MOST_OWNERS]
    of_owners = [rows for it in owners for rows in _first(due.filter(owner_id=it), share)]
    found = {row.id: row for rows in [*_first(due, part.limit), *of_owners] for row in rows}
    turns = Counter(running)
    turn: dict[UUID, int] = {}
    for row in sorted(found.values(), key=_place):
        turns[row.owner_id or ""] += 1
        turn[row.id] = turns[row.owner_id or ""]
    fair = sorted(found.values(), key=lambda row: (-row.priority, turn[row.id], row.id))
    return fair[: part.limit]


def _owners(table: Table, queue: str) -> set[str | None]:
    """Returns the owners of the queue's due rows. An index leads from one owner to the next."""
    due = table.rows().filter(queue=queue, run_after__isnull=True).order_by()
    owners = due.values_list("owner_id", flat=True).distinct()
    return {owner for status in sorted(WAITING) for owner in owners.filter(status=status)}


def _first(due: QuerySet[TaskExecution], limit: int) -> list[QuerySet[TaskExecution]]:
    """Returns the first of these rows, for each status apart.

    An index has them in this order: the query reads, and locks, no other row.
    """
    ordered = due.only("id", "priority", "seq", "owner_id").order_by("-priority", "id")
    return [ordered.filter(status=status)[:limit] for status in sorted(WAITING)]


def _place(row: TaskExecution) -> tuple[int, UUID]:
    return -row.priority, row.id
