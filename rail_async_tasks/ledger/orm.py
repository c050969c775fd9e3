"""The ledger in the project's database, through Django's connections.

Two writer threads: one for creations and claims, one for outcomes and progress, each with a
connection of its own (one for all on SQLite). What the service asks for runs in the caller's
thread, on the caller's connection and in its transaction.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

import msgspec
from django.db import (
    IntegrityError,
    InterfaceError,
    OperationalError,
    connections,
    router,
    transaction,
)
from django.db.models import (
    DO_NOTHING,
    PROTECT,
    RESTRICT,
    Case,
    DateTimeField,
    Exists,
    F,
    OuterRef,
    Q,
    QuerySet,
    Value,
    When,
)

from rail_async_tasks.errors import BackendUnavailable
from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger import ahead, audit
from rail_async_tasks.ledger.callbacks import OrmCallbacks
from rail_async_tasks.ledger.dispatches import OrmDispatches
from rail_async_tasks.ledger.isolation import read_outside, retried
from rail_async_tasks.ledger.leases import OrmLeases
from rail_async_tasks.ledger.locks import (
    delay_after,
    is_lock_refusal,
    unlocked,
    without_waiting,
)
from rail_async_tasks.ledger.options import LedgerOptions
from rail_async_tasks.ledger.port import ClaimPlan
from rail_async_tasks.ledger.records import (
    TOLERANCE,
    Cancelled,
    Claimed,
    ClaimResult,
    Created,
    Disposal,
    Held,
    NewExecution,
    OnFault,
    Outcome,
    Page,
    Progress,
    Recovery,
    RowLocked,
    Settled,
    WriterState,
)
from rail_async_tasks.ledger.rows import (
    clock,
    find_unfinished,
    now,
    snapshot_of,
    snapshot_rows,
    unambiguous,
    unexpired,
)
from rail_async_tasks.ledger.session import (
    Batch,
    Claim,
    Create,
    Keep,
    Look,
    Recover,
    Settle,
    WriterSession,
    batch_on,
)
from rail_async_tasks.ledger.writer import Writer
from rail_async_tasks.models import TaskEvent, TaskExecution, TaskRuntime, TaskSchedule
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.states import FINAL, UNFINISHED, WAITING, Status

T = TypeVar("T")


class OrmLedger:
    """Executions as rows of `TaskExecution`. See `port.Ledger`."""

    blocking = True

    def __init__(self, alias: str | None = None, *, options: LedgerOptions | None = None) -> None:
        self.alias = alias or router.db_for_write(TaskExecution)
        self._options = options or LedgerOptions()
        self.intake = Writer("rail-tasks-intake", self._open_session)
        # SQLite lets one write at a time: a second thread would only wait for the first, asleep.
        self.outcomes = self.intake
        if connections[self.alias].vendor != "sqlite":
            self.outcomes = Writer("rail-tasks-outcomes", self._open_session)

    def _open_session(self) -> WriterSession:
        return WriterSession(self.alias, audited=self._options.audit)

    # --- for the runtime -------------------------------------------------------------------------

    def start(self, on_fault: OnFault | None = None) -> None:
        loop = asyncio.get_running_loop()
        for writer in {self.intake, self.outcomes}:
            writer.start(loop, on_fault)

    async def stop(self) -> None:
        await self.intake.stop()
        if self.outcomes is not self.intake:
            await self.outcomes.stop()

    def create(self, new: NewExecution, done: Callable[[Created | BaseException], None]) -> None:
        self.intake.submit(Create(new, done, time.monotonic() + self._options.create_timeout))

    def give_up_locked(self) -> None:
        self.intake.give_up_locked()

    def abandon_locked(self) -> None:
        for writer in dict.fromkeys((self.intake, self.outcomes)):
            writer.abandon_locked()

    async def claim(self, plan: ClaimPlan) -> ClaimResult:
        return await _answer(lambda done: self.intake.submit(Claim(plan, new_id(), done)))

    def settle(
        self, outcome: Outcome, done: Callable[[Settled | BaseException | None], None]
    ) -> None:
        self.outcomes.submit(Settle(outcome, done))

    def progress(self, progress: Progress) -> None:
        self.outcomes.submit(Keep(progress, _ignore))

    @property
    def congested(self) -> bool:
        return self.outcomes.congested or self.intake.congested

    async def relieved(self) -> None:
        await self.outcomes.relieved()
        await self.intake.relieved()

    async def cancels_for(self, runtime_id: UUID) -> Sequence[UUID]:
        held = self._rows().filter(runtime_id=runtime_id, status="running", cancel_requested=True)
        return await self._look_once(lambda: list(held.values_list("id", flat=True)))

    async def held_by(self, runtime_id: UUID) -> Sequence[Held]:
        held = self._rows().filter(runtime_id=runtime_id, status="running")
        return await self._look_once(
            lambda: [
                Held(row.id, row.token, row.cancel_requested, row.rerun_on_crash)
                for row in held.only("id", "token", "cancel_requested", "rerun_on_crash")
                if row.token is not None
            ]
        )

    async def recover(self, recovery: Recovery, limit: int) -> list[TaskSnapshot]:
        return await _answer(lambda done: self.outcomes.submit(Recover(recovery, limit, done)))

    async def now(self) -> datetime:
        return await self._look(lambda: clock(self.alias))

    async def schedule(self, name: str, since: datetime) -> None:
        fresh = [TaskSchedule(name=name, last_tick=unambiguous(since, self.alias))]
        schedules = TaskSchedule.objects.using(self.alias)
        await self._unlocked(lambda: schedules.bulk_create(fresh, ignore_conflicts=True))

    async def tick(self, name: str, at: datetime, new: NewExecution) -> Created | None:
        return await self._unlocked(lambda: self._tick(name, at, new))

    def _tick(self, name: str, at: datetime, new: NewExecution) -> Created | None:
        bound = unambiguous(at, self.alias)
        schedules = TaskSchedule.objects.using(self.alias)
        if not schedules.filter(name=name, last_tick__lt=bound).update(last_tick=bound):
            return None
        created = self.create_here(new)
        return created if created.existing is None else None

    async def set_back(self, name: str, latest: datetime, to: datetime) -> bool:
        bound, mended = unambiguous(latest, self.alias), unambiguous(to, self.alias)
        beyond = TaskSchedule.objects.using(self.alias).filter(name=name, last_tick__gt=bound)
        # An UPDATE on SQLite takes the one write lock even where it finds nothing.
        return await self._look(lambda: beyond.exists() and bool(beyond.update(last_tick=mended)))

    async def correct_times(self, ttl: float | None, hold: float) -> int:
        return await self._look_once(lambda: ahead.correct(self.alias, ttl, hold))

    async def unknown_names(self, known: Collection[str]) -> set[str]:
        return await self._look_once(lambda: self._unknown_names(known))

    def _unknown_names(self, known: Collection[str]) -> set[str]:
        waiting = self._rows().filter(status__in=sorted(WAITING)).exclude(name__in=known)
        names = set(waiting.order_by().values_list("name", flat=True).distinct())
        if not names:
            return names
        alive = TaskRuntime.objects.using(self.alias).filter(dead=False)
        return names.difference(*alive.values_list("names", flat=True))

    async def fail_unknown(
        self, name: str, ttl: float | None, callback: float | None, limit: int
    ) -> list[TaskSnapshot]:
        return await self._look(lambda: self._fail_unknown(name, ttl, callback, limit))

    def _fail_unknown(
        self, name: str, ttl: float | None, callback: float | None, limit: int
    ) -> list[TaskSnapshot]:
        waiting = self._rows().filter(name=name, status__in=sorted(WAITING)).order_by("id")
        failed = []
        with transaction.atomic(using=self.alias):
            for execution_id in list(unlocked(waiting).values_list("id", flat=True)[:limit]):
                at = now(self.alias)
                changed = waiting.filter(id=execution_id).update(
                    status=Status.FAILED,
                    seq=F("seq") + 1,
                    step=0,
                    error=f"No process knows a task of the name {name!r}.",
                    error_code="unknown_task",
                    run_after=None,
                    dispatched_at=None,
                    completed_at=at,
                    updated_at=at,
                    expires_at=None if ttl is None else at + timedelta(seconds=ttl),
                    callback_at=None if callback is None else at + timedelta(seconds=callback),
                    unique_key=None,
                )
                found = self.get_many([execution_id]) if changed else []
                self._record(partial(audit.of_unknown, found))
                failed += found
        return failed

    async def queues(self) -> Sequence[str]:
        waiting = self._rows().filter(status__in=sorted(WAITING)).order_by()
        return await self._look_once(
            lambda: list(waiting.values_list("queue", flat=True).distinct())
        )

    async def reread(self, execution_ids: Sequence[UUID]) -> list[TaskSnapshot]:
        return await self._look_once(lambda: self.get_many(execution_ids))

    async def changed_lately(
        self, owner_ids: Collection[str], seconds: float
    ) -> list[TaskSnapshot]:
        def read() -> list[TaskSnapshot]:
            rows = snapshot_rows(self.alias).filter(owner_id__in=owner_ids)
            rows = rows.filter(**self._changed_in(seconds))
            visible = rows.filter(unexpired(self.alias))
            newest = visible.order_by("-updated_at", "-id")[: self._options.max_changed]
            return [snapshot_of(row) for row in newest][::-1]

        return await self._look_once(read)

    async def delete_expired(self, limit: int) -> int:
        # By the writer, so that it never competes with one (on SQLite for the one write lock).
        return await self._delete_aside(lambda: self._dispose_expired(Disposal(), limit))

    async def _delete_aside(self, delete: Callable[[], int]) -> int:
        """How many rows it deletes; 0 where rows of the project's that refer to them are locked."""
        if connections[self.alias].vendor == "mysql":  # see `without_waiting`
            return await self._look_once(delete)
        deleted = await self._look_once(lambda: self._try(delete))
        return 0 if deleted is None else deleted[0]

    def dispatches(self) -> OrmDispatches:
        return OrmDispatches(self.alias, self._look, self._look_aside, audited=self._options.audit)

    def leases(self) -> OrmLeases:
        return OrmLeases(self.alias)

    def recoveries(self) -> OrmLedger:
        return self

    def callbacks(self) -> OrmCallbacks:
        return OrmCallbacks(self.alias, self._look, self._look_once)

    def audit_log(self) -> OrmAuditLog:
        return OrmAuditLog(self)

    def writers(self) -> OrmLedger:
        return self

    def states(self) -> Sequence[WriterState]:
        return [writer.state() for writer in dict.fromkeys((self.intake, self.outcomes))]

    async def _look(self, read: Callable[[], T]) -> T:
        return await _answer(lambda done: self.outcomes.submit(Look(read, done)))

    async def _unlocked(self, change: Callable[[], T]) -> T:
        """A change in a transaction that waits for locks here, not in the writer's thread."""
        looks = 1
        while (made := await self._look(lambda: self._try(change))) is None:
            await asyncio.sleep(delay_after(looks))
            looks += 1
        return made[0]

    def _try(self, change: Callable[[], T]) -> tuple[T] | None:
        """What the change returns; None, and no change, where it would wait for a lock."""
        try:
            with without_waiting(connections[self.alias]):
                return (change(),)
        except OperationalError as error:
            if not is_lock_refusal(error):
                raise
            return None

    async def _look_aside(self, read: Callable[[], T]) -> T:
        """By the writer that has less to do; on SQLite they are one."""
        writer = min((self.outcomes, self.intake), key=lambda it: it.pending)
        return await _answer(lambda done: writer.submit(Look(read, done)))

    async def _look_once(self, read: Callable[[], T]) -> T:
        """For what is read again and again in any case: it fails where the database does."""
        return await _answer(lambda done: self.outcomes.submit(Look(read, done, once=True)))

    # --- for the service -------------------------------------------------------------------------

    def in_transaction(self) -> bool:
        return connections[self.alias].in_atomic_block

    def on_commit(self, callback: Callable[[], None]) -> None:
        transaction.on_commit(callback, using=self.alias, robust=True)

    @retried
    def create_here(self, new: NewExecution) -> Created:
        connection = connections[self.alias]
        for tried in range(self._options.max_key_attempts):
            try:
                # A savepoint inside the caller's transaction, which a taken key must not abort.
                with transaction.atomic(using=self.alias), connection.cursor() as cursor:
                    return self._batch().create(cursor, [new])[0]
            except IntegrityError:
                if new.unique_key is None:
                    raise
                existing = find_unfinished(self.alias, new.unique_key)
                if existing is None and tried:
                    # Committed after the caller's transaction began, which does not see it.
                    existing = read_outside(
                        self.alias, lambda: find_unfinished(self.alias, new.unique_key)
                    )
            if existing is not None:
                return Created(existing.created_at, existing=existing)
            # The key was freed since then.
        raise BackendUnavailable(
            f"{new.name} was not started: other tasks took and freed its unique key"
            f" {self._options.max_key_attempts} times meanwhile. Start it again."
        )

    def get(self, execution_id: UUID) -> TaskSnapshot | None:
        found = self.get_many([execution_id])
        return found[0] if found else None

    @retried
    def get_many(self, execution_ids: Sequence[UUID]) -> list[TaskSnapshot]:
        rows = snapshot_rows(self.alias).filter(unexpired(self.alias), id__in=execution_ids)
        return [snapshot_of(row) for row in rows]

    @retried
    def arguments(self, execution_id: UUID) -> str | None:
        row = self._rows().filter(id=execution_id).values_list("arguments", flat=True).first()
        return None if row is None else msgspec.json.encode(row).decode()

    @retried
    def page(self, page: Page) -> list[TaskSnapshot]:
        rows = snapshot_rows(self.alias).filter(unexpired(self.alias))
        if not page.everyone:
            rows = rows.filter(owner_id=page.owner_id, tenant_id=page.tenant_id)
        if page.status is not None:
            rows = rows.filter(status=page.status)
        if page.unfinished:
            rows = rows.filter(status__in=sorted(UNFINISHED))
        if page.name is not None:
            rows = rows.filter(name=page.name)
        if page.queue is not None:
            rows = rows.filter(queue=page.queue)
        if page.after is not None:
            rows = rows.filter(id__lt=page.after)
        return [snapshot_of(row) for row in rows.order_by("-id")[: page.limit]]

    def ended_lately(self, owner_id: str, tenant_id: str | None, seconds: float) -> list[UUID]:
        theirs = self._rows().filter(owner_id=owner_id, tenant_id=tenant_id)
        ended = theirs.filter(status__in=sorted(FINAL), **self._changed_in(seconds))
        newest = ended.order_by("-updated_at", "-id").values_list("id", flat=True)
        return list(newest[: self._options.max_changed])

    def _changed_in(self, seconds: float) -> dict[str, Any]:
        """The rows of the last so many seconds; not those of a clock that was ahead, for ever."""
        at = now(self.alias)
        since = at - timedelta(seconds=seconds)
        return {"updated_at__gte": since, "updated_at__lte": at + TOLERANCE}

    def _patiently(self, read: Callable[[], T]) -> T:
        """Reads again on a new connection, where this thread's was lost and nothing hangs on it."""
        connection = connections[self.alias]
        try:
            return read()
        except (OperationalError, InterfaceError):
            if connection.in_atomic_block:
                raise
            connection.close()
            return read()

    @retried
    def count_waiting(self, owner_id: str | None, at_most: int) -> int:
        waiting = self._rows().filter(status__in=sorted(WAITING)).order_by()
        if owner_id is not None:
            waiting = waiting.filter(owner_id=owner_id)
        return self._patiently(waiting[:at_most].count)

    @retried
    def nth_newest(
        self, owner_id: str | None, since: UUID, until: UUID, n: int, besides: Collection[UUID]
    ) -> UUID | None:
        started = self._rows().filter(owner_id=owner_id, id__gte=since, id__lt=until)
        started = started.order_by("-id")
        if besides:
            started = started.exclude(id__in=besides)
        return self._patiently(started.values_list("id", flat=True)[n - 1 : n].first)

    @retried
    def cancel(
        self,
        execution_id: UUID,
        ttl: float | None,
        actor: str | None = None,
        *,
        wait: bool = True,
    ) -> Cancelled | None:
        at = now(self.alias)
        waiting = Q(status__in=sorted(WAITING))

        def if_waiting(value: Any, column: str) -> Case:
            return Case(When(waiting, then=value), default=F(column))

        nothing = Value(None)
        expires = Value(None, DateTimeField()) if ttl is None else at + timedelta(seconds=ttl)
        unfinished = self._rows().filter(id=execution_id, status__in=sorted(UNFINISHED))
        features = connections[self.alias].features
        wait = wait or self.in_transaction() or not features.has_select_for_update_skip_locked
        with transaction.atomic(using=self.alias):
            free = wait or bool(list(unlocked(unfinished.only("id"))))
            if not free and unfinished.exists():
                raise RowLocked
            changed = free and unfinished.update(
                cancel_requested=True,
                updated_at=at,
                seq=if_waiting(F("seq") + 1, "seq"),
                step=if_waiting(Value(0), "step"),
                error=if_waiting(nothing, "error"),
                error_code=if_waiting(Value("cancelled"), "error_code"),
                run_after=if_waiting(Value(None, DateTimeField()), "run_after"),
                # Of a running row it is empty.
                dispatched_at=None,
                completed_at=if_waiting(at, "completed_at"),
                expires_at=if_waiting(expires, "expires_at"),
                unique_key=if_waiting(nothing, "unique_key"),
                # Last: MySQL has every value after it go by the new one.
                status=if_waiting(Value(Status.CANCELLED.value), "status"),
            )
            snapshot = self.get(execution_id)
            if changed and snapshot is not None:
                self._record(lambda: [audit.of_cancel(snapshot, actor)])
        return None if snapshot is None else Cancelled(snapshot, bool(changed))

    # --- for operators ---------------------------------------------------------------------------

    def ping(self) -> None:
        self._rows().order_by().exists()

    @retried
    def dispose(self, which: Disposal, limit: int) -> int:
        count = self._dispose_expired(which, limit)
        if which.age is not None and count < limit:
            # By id, which is the order of creation: those that have ended long ago come first.
            count += self._delete(self._aged(which, which.age).order_by("id"), limit - count)
        return count

    @retried
    def count_disposable(self, which: Disposal) -> int:
        rows = self._expired(which)
        rows = rows if which.age is None else rows | self._aged(which, which.age)
        return self._unprotected(rows).count()

    def _dispose_expired(self, which: Disposal, limit: int) -> int:
        return self._delete(self._expired(which).order_by("expires_at"), limit)

    def _expired(self, which: Disposal) -> QuerySet[TaskExecution]:
        ended = self._rows().filter(status__in=sorted(which.statuses & FINAL))
        return ended.filter(self._unmarked(), expires_at__lte=now(self.alias))

    def _aged(self, which: Disposal, age: float) -> QuerySet[TaskExecution]:
        ended = self._rows().filter(status__in=sorted(which.statuses & FINAL))
        before = now(self.alias) - timedelta(seconds=age)
        return ended.filter(self._unmarked(), completed_at__lte=before)

    def _unmarked(self) -> Q:
        """What no failure callback waits for; with callbacks switched off, nothing does."""
        return Q(callback_at__isnull=True) if self._options.callbacks else Q()

    def _delete(self, rows: QuerySet[Any], limit: int) -> int:
        """Deletes the first of these rows. They are final: nobody changes them meanwhile."""
        rows = self._unprotected(rows)
        table: QuerySet[Any] = QuerySet(rows.model, using=self.alias)
        features = connections[self.alias].features
        if features.has_select_for_update_skip_locked:
            rows = unlocked(rows, to_delete=True)
        elif features.allow_sliced_subqueries_with_in:
            # One statement: SQLite refuses a transaction that reads before it writes.
            return table.filter(id__in=rows.values("id")[:limit]).delete()[0]
        with transaction.atomic(using=self.alias):
            ids = list(rows.values_list("id", flat=True)[:limit])
            for start in range(0, len(ids), self._options.max_deleted):
                table.filter(id__in=ids[start : start + self._options.max_deleted]).delete()
        return len(ids)

    def _unprotected(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Those of the rows that no foreign key of the project's keeps from being deleted."""
        for relation in rows.model._meta.related_objects:
            if relation.on_delete in (PROTECT, RESTRICT, DO_NOTHING):
                referring: QuerySet[Any] = QuerySet(relation.related_model, using=self.alias)
                theirs = referring.filter(**{relation.field.name: OuterRef("pk")})
                rows = rows.exclude(Exists(theirs))
        return rows

    # --- for an attempt that runs inline ---------------------------------------------------------

    @retried
    def claim_here(self, execution_id: UUID, runtime_id: UUID, token: UUID) -> Claimed | None:
        at = now(self.alias)
        with transaction.atomic(using=self.alias):
            changed = (
                self._rows()
                .filter(id=execution_id, status__in=sorted(WAITING))
                .update(
                    status=Status.RUNNING, attempts=F("attempts") + 1, seq=F("seq") + 1, step=0,
                    progress=0, progress_message=None, error=None, error_code=None, traceback=None,
                    runtime_id=runtime_id, token=token, started_at=at, updated_at=at,
                    run_after=None,
                )
            )  # fmt: skip
            snapshot = self.get(execution_id)
            if not changed or snapshot is None:
                return None
            claimed = Claimed(snapshot, self.arguments(execution_id) or "{}", token)
            self._record(lambda: audit.of_claims([claimed], runtime_id))
        return claimed

    @retried
    def settle_here(self, outcome: Outcome) -> Settled | None:
        connection = connections[self.alias]
        with transaction.atomic(using=self.alias), connection.cursor() as cursor:
            if connection.features.has_select_for_update:
                # This thread waits for the transaction that has the row locked: nothing would
                # settle it later.
                no_key = connection.features.has_select_for_no_key_update
                mine = self._rows().select_for_update(no_key=no_key).filter(id=outcome.id)
                list(mine.only("id"))
            return self._batch().settle(cursor, [outcome])[0]

    @retried
    def progress_here(self, progress: Progress) -> None:
        connection = connections[self.alias]
        with connection.cursor() as cursor:
            batch_on(connection).progress(cursor, [progress], set())

    def _batch(self) -> Batch:
        return batch_on(connections[self.alias], audited=self._options.audit)

    def _record(self, events: Callable[[], Iterable[audit.Event]]) -> None:
        """Stores audit rows in this thread's transaction, if there is an audit."""
        if self._options.audit:
            with connections[self.alias].cursor() as cursor:
                self._batch().record(cursor, events())

    def _rows(self) -> QuerySet[TaskExecution]:
        return TaskExecution.objects.using(self.alias)


class OrmAuditLog:
    """See `upkeep.AuditLog`."""

    def __init__(self, ledger: OrmLedger) -> None:
        self._ledger = ledger

    async def delete(self, days: float, limit: int) -> int:
        ledger = self._ledger
        before = now(ledger.alias) - timedelta(days=days)
        old = TaskEvent.objects.using(ledger.alias).filter(at__lt=before).order_by("at")
        return await ledger._delete_aside(lambda: ledger._delete(old, limit))  # noqa: SLF001


async def _answer(submit: Callable[[Callable[[T | BaseException], None]], None]) -> T:
    """What a writer reports for the operation that `submit` hands over."""
    waiter: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def done(result: T | BaseException) -> None:
        if waiter.done():  # the caller was cancelled
            return
        if isinstance(result, BaseException):
            waiter.set_exception(result)
        else:
            waiter.set_result(result)

    submit(done)
    return await waiter


def _ignore(result: object) -> None:
    """Progress that could not be kept is superseded by the next, or by the outcome."""
