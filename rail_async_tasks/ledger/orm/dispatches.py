"""Dispatches in the database: which waiting executions are on their way to a worker.

Each change is one guarded UPDATE of rows that are locked, where the database can skip rows that
another transaction has locked. The usual case takes one statement (`sql.dispatches`); the rest is
looked at here, one condition after the other.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from typing import Any
from uuid import UUID

import msgspec
from django.db import connections, transaction
from django.db.models import Q, QuerySet

from rail_async_tasks.conf.model import RateLimit
from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger import audit, rates
from rail_async_tasks.ledger.dispatch_records import (
    DeliveryClaim,
    DeliveryClaimResult,
    Dispatch,
    RatedSend,
)
from rail_async_tasks.ledger.edges import CLAIM, DISPATCH, RELEASE, UNSEND, Edge
from rail_async_tasks.ledger.locks import unlocked, update_unlocked
from rail_async_tasks.ledger.options import ReadOptions
from rail_async_tasks.ledger.orm.due_rows import ASK_DOUBLINGS, DueRows, dispatched_before
from rail_async_tasks.ledger.orm.part import OrmPart
from rail_async_tasks.ledger.orm.threads import WriterThreads
from rail_async_tasks.ledger.records import Claimed
from rail_async_tasks.ledger.rows import claimed_of, clock, now, snapshot_rows, storable
from rail_async_tasks.ledger.sql.dispatches import can_send, claim_plain, in_order, send_fresh
from rail_async_tasks.ledger.updates import database_moment, moment_of, values_of
from rail_async_tasks.ledger.vendors import is_portable
from rail_async_tasks.models import TaskExecution, TaskRuntime
from rail_async_tasks.roles import Role
from rail_async_tasks.states import WAITING, Status
from rail_async_tasks.token_bucket import AHEAD_SECONDS

# Seconds between two looks for overdue dispatches, per queue.
OVERDUE_INTERVAL = 1.0

# The columns that a dispatch is made of.
_COLUMNS = ("id", "name", "queue", "priority", "dispatches")


class OrmDispatches(OrmPart):
    """See `upkeep.Dispatches`. Frequent calls run in the writer that has less to do."""

    def __init__(self, alias: str, *, options: ReadOptions, threads: WriterThreads) -> None:
        super().__init__(alias, options=options, threads=threads)
        self._overdue_at: dict[str, float] = {}  # by queue: when to look for overdue rows

    async def send(self, queue: str, backend: str, window: int, limit: int) -> list[Dispatch]:
        return await self._threads.run_aside(lambda: self._send(queue, backend, window, limit))

    async def send_rated(self, queue: str, backend: str, rate: RateLimit, limit: int) -> RatedSend:
        return await self._threads.run_aside(lambda: self._send_rated(queue, backend, rate, limit))

    async def unsend(self, dispatches: Sequence[Dispatch]) -> list[Dispatch]:
        return await self._threads.run(lambda: self._unsend(dispatches))

    async def under_way(
        self, backend: str, seconds: float, after: UUID | None, limit: int
    ) -> list[Dispatch]:
        return await self._threads.run_aside(
            lambda: self._under_way(backend, seconds, after, limit)
        )

    async def release(self, execution_ids: Collection[UUID]) -> set[UUID]:
        return await self._threads.run(lambda: self._release(execution_ids))

    async def claim(self, delivery: DeliveryClaim) -> DeliveryClaimResult:
        # The same token at every try: a try without an answer may have claimed rows, and the next
        # try finds them by the token.
        token = new_id()
        # Beside the outcomes: a worker creates little, and its intake would have nothing to do.
        return await self._threads.run_aside(lambda: self._claim(delivery, token))

    def any_worker(self) -> bool:
        at = now(self.alias)
        alive = TaskRuntime.objects.using(self.alias).filter(dead=False, lapses_at__gt=at)
        return alive.exclude(role=Role.WEB).exists()

    # --- in the writer's thread ------------------------------------------------------------------

    def _send(self, queue: str, backend: str, window: int, limit: int) -> list[Dispatch]:
        if self._has_statements and can_send(self.alias) and not self._looks_for_overdue(queue):
            return send_fresh(self.alias, queue, backend, window, limit)
        due = DueRows(
            self._waiting().filter(queue=queue, run_after__isnull=True), clock(self.alias)
        )
        if not due.any():
            return []  # a transaction on SQLite takes the one write lock
        with transaction.atomic(using=self.alias):
            return self._mark(due, backend, window - due.under_way(window), limit)

    def _due_rows(self, queue: str) -> DueRows:
        rows = self._waiting().filter(queue=queue, run_after__isnull=True)
        return DueRows(rows, clock(self.alias))

    @property
    def _has_statements(self) -> bool:
        return not is_portable(connections[self.alias])

    def _looks_for_overdue(self, queue: str) -> bool:
        """Returns whether it is time to look for overdue rows too: now and then, per queue."""
        if time.monotonic() < self._overdue_at.get(queue, 0.0):
            return False
        self._overdue_at[queue] = time.monotonic() + OVERDUE_INTERVAL
        return True

    def _send_rated(self, queue: str, backend: str, rate: RateLimit, limit: int) -> RatedSend:
        due = DueRows(
            self._waiting().filter(queue=queue, run_after__isnull=True), clock(self.alias)
        )
        if not due.any():
            return RatedSend([], None)
        # Without a lock, which claims would have to wait for. Where two processes send for one
        # token, an id comes early.
        bucket = rates.read(self.alias, queue, rate)
        tokens = bucket.tokens(AHEAD_SECONDS)
        under_way = due.under_way(tokens + 1)
        if tokens <= under_way and not due.late.exists():
            return RatedSend([], bucket.wait_to_send(under_way))
        with transaction.atomic(using=self.alias):
            sent = self._mark(due, backend, tokens - under_way, limit)
        fresh = sum(not it.overdue for it in sent)
        return RatedSend(sent, bucket.wait_to_send(under_way + fresh))

    def _mark(self, due: DueRows, backend: str, room: int, limit: int) -> list[Dispatch]:
        """Marks overdue rows, and others for which there is room, as sent; returns them."""
        overdue = self._first(due.late, limit)
        chosen = overdue + self._first(due.fresh, min(limit - len(overdue), room))
        # Where rows cannot be locked, some may have been claimed since they were read.
        mine = self._waiting().filter(id__in=[row.id for row in chosen])
        mine.update(**values_of(DISPATCH, moment_of(due.at), backend=backend))
        return [
            _dispatch(row, row.dispatches + 1, overdue=number < len(overdue))
            for number, row in enumerate(chosen)
        ]

    def _first(self, rows: QuerySet[TaskExecution], limit: int) -> list[TaskExecution]:
        if limit <= 0:
            return []
        ordered = rows.only(*_COLUMNS).order_by("-priority", "id")
        return list(unlocked(ordered)[:limit])

    def _unsend(self, dispatches: Sequence[Dispatch]) -> list[Dispatch]:
        numbers: dict[int, dict[UUID, Dispatch]] = {}
        for dispatch in dispatches:
            numbers.setdefault(dispatch.number, {})[dispatch.id] = dispatch
        locked = []
        for number, by_id in numbers.items():
            # Not what another process has sent since then.
            sent = self._under_way_now(by_id).filter(dispatches=number)
            locked += [by_id[it] for it in update_unlocked(sent, **self._values(UNSEND)).locked]
        return locked

    def _under_way(
        self, backend: str, seconds: float, after: UUID | None, limit: int
    ) -> list[Dispatch]:
        old = dispatched_before(clock(self.alias), seconds, ASK_DOUBLINGS)
        rows = self._waiting().filter(old, dispatched_to=backend)
        if after is not None:
            rows = rows.filter(id__gt=after)
        found = rows.only(*_COLUMNS).order_by("id")[:limit]
        return [_dispatch(row, row.dispatches) for row in found]

    def _release(self, execution_ids: Collection[UUID]) -> set[UUID]:
        arrived = self._under_way_now(execution_ids)
        return update_unlocked(arrived, **self._values(RELEASE)).locked

    def _values(self, edge: Edge) -> dict[str, Any]:
        return values_of(edge, database_moment(self.alias))

    def _under_way_now(self, ids: Collection[UUID]) -> QuerySet[TaskExecution]:
        return self._waiting().filter(id__in=list(ids), dispatched_at__isnull=False)

    def _claim(self, wanted: DeliveryClaim, token: UUID) -> DeliveryClaimResult:
        plain = self._claim_plain(wanted, token)
        left = set(wanted.ids).difference(it.snapshot.id for it in plain)
        if not left:
            return DeliveryClaimResult(plain, set())
        result = self._claim_left_over(msgspec.structs.replace(wanted, ids=left), token)
        return msgspec.structs.replace(result, claimed=in_order([*plain, *result.claimed]))

    def _claim_plain(self, wanted: DeliveryClaim, token: UUID) -> list[Claimed]:
        if not self._has_statements:
            return []
        with transaction.atomic(using=self.alias) if self._options.audit else nullcontext():
            claimed = claim_plain(self.alias, wanted, token, [*wanted.paused, *wanted.rates])
            self._record(lambda: audit.of_claims(claimed, wanted.runtime_id))
        return claimed

    def _claim_left_over(self, wanted: DeliveryClaim, token: UUID) -> DeliveryClaimResult:
        """Claims what is found one condition after the other, and finds out about the rest."""
        at = clock(self.alias)
        due = self._waiting().filter(
            Q(run_after__isnull=True) | Q(run_after__lte=storable(at)),
            id__in=list(wanted.ids), name__in=list(wanted.names),
        )  # fmt: skip
        paused: set[UUID] = set()
        if wanted.paused:
            theirs = self._waiting().filter(id__in=list(wanted.ids), queue__in=list(wanted.paused))
            paused = set(theirs.values_list("id", flat=True))
            due = due.exclude(queue__in=list(wanted.paused))
        if not due.exists():  # a transaction on SQLite takes the one write lock
            return DeliveryClaimResult(self._claimed(wanted, token), set(), paused=paused)
        with transaction.atomic(using=self.alias):
            rows = list(unlocked(due.only("id", "crashes", "queue", "priority").order_by("id")))
            ids = [row.id for row in rows if row.crashes < wanted.crashes]
            suspects = [row.id for row in rows if row.crashes >= wanted.crashes]
            if wanted.suspects:
                ids += suspects[:1]
            locked: set[UUID] = set()
            if len(rows) < len(wanted.ids):
                # Rows that a read without locks shows as due, and were skipped, are locked.
                left = due.exclude(id__in=[row.id for row in rows])
                locked = set(left.values_list("id", flat=True))
            early: dict[UUID, float] = {}
            if wanted.rates:
                early = self._early([row for row in rows if row.id in ids], wanted.rates)
                ids = [it for it in ids if it not in early]
            taken = values_of(CLAIM, moment_of(at), runtime_id=wanted.runtime_id, token=token)
            due.filter(id__in=ids).update(**taken)
            self._record(lambda: audit.of_claims(self._claimed(wanted, token), wanted.runtime_id))
        claimed = self._claimed(wanted, token)
        postponed = set(suspects) - set(ids) - early.keys()
        return DeliveryClaimResult(claimed, postponed, locked, paused, early)

    def _early(
        self, rows: Sequence[TaskExecution], limits: Mapping[str, RateLimit]
    ) -> dict[UUID, float]:
        """Takes tokens for rows of queues with a rate; returns those that get none, see `early`."""
        early: dict[UUID, float] = {}
        for queue in sorted({row.queue for row in rows} & limits.keys()):
            theirs = [row for row in rows if row.queue == queue]
            theirs.sort(key=lambda row: (-row.priority, row.id))
            # Before the bucket is locked, which other workers then can't take from.
            rest = self._waiting().filter(queue=queue, run_after__isnull=True)
            more = rest.exclude(id__in=[row.id for row in theirs]).exists()
            taken = rates.take(self.alias, queue, limits[queue], len(theirs))
            if taken is None:
                early |= {row.id: 0.0 for row in theirs}
                continue
            left = taken.bucket.spend(taken.count)
            for number, row in enumerate(theirs[taken.count :], start=1):
                early[row.id] = left.wait(number)
            some_wait = more or taken.count < len(theirs)
            taken.used(taken.count, lambda: some_wait)  # noqa: B023 (called at once)
        return early

    def _claimed(self, wanted: DeliveryClaim, token: UUID) -> list[Claimed]:
        rows = snapshot_rows(self.alias).defer(None).defer("traceback")
        mine = rows.filter(id__in=list(wanted.ids), token=token, status=Status.RUNNING)
        return [
            claimed_of(row, token, suspect=row.crashes >= wanted.crashes)
            for row in mine.order_by("-priority", "id")
        ]

    def _waiting(self) -> QuerySet[TaskExecution]:
        return self._rows().filter(status__in=sorted(WAITING))


def _dispatch(row: TaskExecution, number: int, *, overdue: bool = False) -> Dispatch:
    return Dispatch(row.id, row.name, row.queue, row.priority, number, overdue)
