"""Dispatches in the database: which waiting executions are on their way to a worker.

Each change is one guarded UPDATE of rows that are locked, where the database can skip rows that
another transaction has locked.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any
from uuid import UUID

from django.db import transaction
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
from rail_async_tasks.ledger.orm.part import OrmPart
from rail_async_tasks.ledger.records import Claimed
from rail_async_tasks.ledger.rows import claimed_of, clock, now, snapshot_rows, storable
from rail_async_tasks.ledger.updates import database_moment, moment_of, values_of
from rail_async_tasks.models import TaskExecution, TaskRuntime
from rail_async_tasks.roles import Role
from rail_async_tasks.states import WAITING, Status
from rail_async_tasks.token_bucket import AHEAD_SECONDS

# An execution that was dispatched so many seconds ago is dispatched again; each time this doubles.
FIRST_BOUND = 60.0
DOUBLINGS = 6
# The same where the broker can be asked which ids it has.
ASK_DOUBLINGS = 3

# The columns that a dispatch is made of.
_COLUMNS = ("id", "name", "queue", "priority", "dispatches")


class OrmDispatches(OrmPart):
    """See `upkeep.Dispatches`. `send` and `under_way` run in the writer that has less to do."""

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
        return await self._threads.run(lambda: self._claim(delivery, token))

    def any_worker(self) -> bool:
        at = now(self.alias)
        alive = TaskRuntime.objects.using(self.alias).filter(dead=False, lapses_at__gt=at)
        return alive.exclude(role=Role.WEB).exists()

    # --- in the writer's thread ------------------------------------------------------------------

    def _send(self, queue: str, backend: str, window: int, limit: int) -> list[Dispatch]:
        due = _Due(self._waiting().filter(queue=queue, run_after__isnull=True), clock(self.alias))
        if not due.any():
            return []  # a transaction on SQLite takes the one write lock
        with transaction.atomic(using=self.alias):
            return self._mark(due, backend, window - due.under_way(window), limit)

    def _send_rated(self, queue: str, backend: str, rate: RateLimit, limit: int) -> RatedSend:
        due = _Due(self._waiting().filter(queue=queue, run_after__isnull=True), clock(self.alias))
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

    def _mark(self, due: _Due, backend: str, room: int, limit: int) -> list[Dispatch]:
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
        old = _older(clock(self.alias), seconds, ASK_DOUBLINGS)
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


class _Due:
    """The due rows of one queue: not sent yet, sent too long ago, and under way."""

    def __init__(self, rows: QuerySet[TaskExecution], at: datetime) -> None:
        self.at = at
        self._sent = rows.filter(dispatched_at__isnull=False)
        self.fresh = rows.filter(dispatched_at__isnull=True)
        self.late = rows.filter(_overdue(at))

    def any(self) -> bool:
        """Returns whether there is something to send."""
        return self.fresh.exists() or self.late.exists()

    def under_way(self, at_most: int) -> int:
        """Counts what is under way, no further than `at_most`."""
        return self._sent.order_by()[:at_most].count()


def _dispatch(row: TaskExecution, number: int, *, overdue: bool = False) -> Dispatch:
    return Dispatch(row.id, row.name, row.queue, row.priority, number, overdue)


def _overdue(at: datetime) -> Q:
    """Returns the condition for dispatches of so long ago that they must have been lost."""
    return _older(at, FIRST_BOUND, DOUBLINGS)


def _older(at: datetime, first: float, doublings: int) -> Q:
    """Returns the condition for dispatches older than `first` seconds, doubled per dispatch."""

    def before(number: int) -> Any:
        return storable(at - timedelta(seconds=first * 2.0 ** (number - 1)))

    bounds = [
        Q(dispatches=number, dispatched_at__lt=before(number)) for number in range(1, doublings + 1)
    ]
    most = Q(dispatches__gt=doublings, dispatched_at__lt=before(doublings + 1))
    return reduce(or_, bounds, most)
