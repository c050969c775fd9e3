"""Ports of a shared ledger and of a broker, in memory: real behaviour for rows that tests make."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from rail_async_tasks.conf import RateLimit
from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.dispatch_records import (
    DeliveryClaim,
    DeliveryClaimResult,
    Dispatch,
    RatedSend,
)
from rail_async_tasks.ledger.memory.ledger import MemoryLedger
from rail_async_tasks.ledger.records import (
    NOTHING_KNOWN,
    Claimed,
    Held,
    Outcome,
    Recovery,
    Renewal,
    Vitals,
)
from rail_async_tasks.ledger.upkeep import Dispatches, Leases, Recoveries
from rail_async_tasks.runtime.claims.pauses import Pauses
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.states import WAITING
from rail_async_tasks.token_bucket import AHEAD_SECONDS
from tests.support.clock import FakeClock


class ReadPauses(Pauses):
    """Pauses that were read, and stay known: for tests whose service is not about them."""

    def __init__(self) -> None:
        super().__init__(reads=MemoryLedger(), hold=lambda paused: None)

    @property
    def known(self) -> bool:
        return True


@dataclass
class Sent:
    """The mark of a row that is under way."""

    dispatch: Dispatch
    at: float


class MemoryDispatches(Dispatches):
    """Marks of rows in a memory ledger. A test locks rows by adding their ids to `locked`."""

    def __init__(self, ledger: MemoryLedger, clock: FakeClock) -> None:
        self._ledger = ledger
        self._clock = clock
        self.marks: dict[UUID, Sent] = {}
        self.counts: dict[UUID, int] = {}
        self.locked: set[UUID] = set()
        self.suspects: set[UUID] = set()
        self.overdue_after = 60.0
        self.claims: list[set[UUID]] = []
        self.released: list[set[UUID]] = []
        self.error: Exception | None = None

    async def send(self, queue: str, backend: str, window: int, limit: int) -> list[Dispatch]:
        if self.error is not None:
            raise self.error
        due = sorted(self._waiting(queue), key=lambda row: (-row.priority, row.id))
        overdue = [row for row in due if self._is_overdue(row.id)]
        fresh = [row for row in due if row.id not in self.marks]
        room = max(window - sum(row.id in self.marks for row in due), 0)
        return [self._mark(row, row.id in self.marks) for row in [*overdue, *fresh[:room]][:limit]]

    async def send_rated(self, queue: str, backend: str, rate: RateLimit, limit: int) -> RatedSend:
        bucket = self._ledger.store.bucket(queue, rate)
        before = sum(it.dispatch.queue == queue for it in self.marks.values())
        sent = await self.send(queue, backend, bucket.tokens(AHEAD_SECONDS), limit)
        return RatedSend(sent, bucket.wait_to_send(before + len(sent)))

    def _waiting(self, queue: str) -> list[TaskSnapshot]:
        rows = self._ledger.get_many(list(self._ledger.store.rows))
        return [
            it for it in rows
            if it.status in WAITING and it.run_after is None and it.queue == queue
            and it.id not in self.locked
        ]  # fmt: skip

    def _is_overdue(self, execution_id: UUID) -> bool:
        mark = self.marks.get(execution_id)
        return mark is not None and self._clock.monotonic() - mark.at >= self.overdue_after

    def _mark(self, row: TaskSnapshot, overdue: bool) -> Dispatch:
        number = self.counts[row.id] = self.counts.get(row.id, 0) + 1
        dispatch = Dispatch(row.id, row.name, row.queue, row.priority, number, overdue)
        self.marks[row.id] = Sent(dispatch, self._clock.monotonic())
        return dispatch

    async def unsend(self, dispatches: Sequence[Dispatch]) -> list[Dispatch]:
        left = [it for it in dispatches if it.id in self.locked]
        for dispatch in dispatches:
            if dispatch.id not in self.locked:
                self.marks.pop(dispatch.id, None)
        return left

    async def under_way(
        self, backend: str, seconds: float, after: UUID | None, limit: int
    ) -> list[Dispatch]:
        old = [it for it in self.marks.values() if self._clock.monotonic() - it.at >= seconds]
        rows = sorted((it.dispatch for it in old), key=lambda dispatch: dispatch.id)
        return [it for it in rows if after is None or it.id > after][:limit]

    async def release(self, execution_ids: Collection[UUID]) -> set[UUID]:
        self.released.append(set(execution_ids))
        for execution_id in set(execution_ids) - self.locked:
            self.marks.pop(execution_id, None)
        return set(execution_ids) & self.locked

    async def claim(self, delivery: DeliveryClaim) -> DeliveryClaimResult:
        if self.error is not None:
            raise self.error
        ids = set(delivery.ids)
        self.claims.append(ids)
        locked = ids & self.locked
        claimed: list[Claimed] = []
        postponed: set[UUID] = set()
        paused: set[UUID] = set()
        early: dict[UUID, float] = {}
        token, may_suspect = new_id(), delivery.suspects
        for execution_id in sorted(ids - locked):
            row = self._ledger.get(execution_id)
            if row is None or row.status not in WAITING or row.name not in delivery.names:
                continue
            if row.queue in delivery.paused:
                paused.add(execution_id)
                continue
            if execution_id in self.suspects:
                if not may_suspect:
                    postponed.add(execution_id)
                    continue
                may_suspect = False
            rate = delivery.rates.get(row.queue)
            found = self._ledger.claim_here(execution_id, delivery.runtime_id, token, rate)
            if found is not None:
                self.marks.pop(execution_id, None)
                claimed.append(found)
            elif rate is not None:
                bucket = self._ledger.store.bucket(row.queue, rate)
                early[execution_id] = bucket.wait(len(early) + 1)
        return DeliveryClaimResult(claimed, postponed, locked, paused, early)


class ListBroker:
    """A broker whose queue is a list. It raises `error`, if there is one."""

    name = "list"

    def __init__(self) -> None:
        self.closed = 0
        self.sent: list[Dispatch] = []
        self.error: BaseException | None = None
        self.pushes = 0

    async def push(self, dispatches: Sequence[Dispatch]) -> None:
        self.pushes += 1
        if self.error is not None:
            raise self.error
        self.sent += dispatches

    async def aclose(self) -> None:
        self.closed += 1


class ListInventory(ListBroker):
    """A `ListBroker` that knows what it has: all that is in the list and not in `lost`."""

    def __init__(self) -> None:
        super().__init__()
        self.lost: set[UUID] = set()
        self.asked: list[list[UUID]] = []
        self.asking_error: BaseException | None = None

    async def missing(self, dispatches: Sequence[Dispatch]) -> Sequence[Dispatch]:
        self.asked.append([it.id for it in dispatches])
        if self.asking_error is not None:
            raise self.asking_error
        return [it for it in dispatches if it.id in self.lost]


@dataclass
class LeaseRow:
    """The row of one runtime."""

    lapses_at: float
    dead: bool = False


class MemoryLeases(Leases):
    """Leases by a clock of the ledger's own, which a test may set ahead."""

    one_writer = False

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.ahead = 0.0
        self.rows: dict[UUID, LeaseRow] = {}
        self.names: dict[UUID, set[str]] = {}
        self.roles: dict[UUID, str | None] = {}
        self.holders: set[UUID] = set()  # of running executions
        self.errors: list[BaseException] = []
        self.forgotten = 0
        self.resets = 0

    def _now(self) -> float:
        return self._clock.monotonic() + self.ahead

    def _fail(self) -> None:
        if self.errors:
            raise self.errors.pop(0)

    def begin(
        self,
        runtime_id: UUID,
        names: Collection[str],
        seconds: float,
        vitals: Vitals = NOTHING_KNOWN,
        program: str = "",
    ) -> None:
        self._fail()
        self.roles[runtime_id] = vitals.role
        self.rows[runtime_id] = LeaseRow(self._now() + seconds)
        self.names[runtime_id] = set(names)

    def renew(self, runtime_id: UUID, seconds: float, vitals: Vitals) -> Renewal:
        self._fail()
        self.roles[runtime_id] = vitals.role
        row = self.rows[runtime_id]
        left = row.lapses_at - self._now()
        if not row.dead:
            row.lapses_at = self._now() + seconds
        others = self.rows.items()
        return Renewal(
            alive=not row.dead,
            left=left,
            silent=any(it != runtime_id and self._has_lapsed(other) for it, other in others),
            dead_holders=frozenset(self.dead_holders()),
        )

    def _has_lapsed(self, row: LeaseRow) -> bool:
        return not row.dead and row.lapses_at < self._now()

    def end(self, runtime_id: UUID) -> None:
        self.rows[runtime_id].dead = True

    def condemn(self) -> int:
        lapsed = [it for it in self.rows.values() if self._has_lapsed(it)]
        for row in lapsed:
            row.dead = True
        return len(lapsed)

    def dead_holders(self) -> set[UUID]:
        return {it for it in self.holders if it not in self.rows or self.rows[it].dead}

    def forget(self) -> None:
        self.forgotten += 1

    def reset(self) -> None:
        self.resets += 1


@dataclass
class MemoryRecoveries(Recoveries):
    """Running rows by holder, and waiting rows by unknown name."""

    running: dict[UUID, list[TaskSnapshot]] = field(default_factory=dict)
    held: dict[UUID, list[Held]] = field(default_factory=dict)
    unknown: dict[str, list[TaskSnapshot]] = field(default_factory=dict)
    cancels: dict[UUID, list[UUID]] = field(default_factory=dict)
    freed: list[Recovery] = field(default_factory=list)
    reads: int = 0
    error: Exception | None = None

    async def cancels_for(self, runtime_id: UUID) -> Sequence[UUID]:
        self.reads += 1
        if self.error is not None:
            raise self.error
        return self.cancels.get(runtime_id, [])

    async def held_by(self, runtime_id: UUID) -> Sequence[Held]:
        return self.held.get(runtime_id, [])

    async def recover(self, recovery: Recovery, limit: int) -> list[TaskSnapshot]:
        self.freed.append(recovery)
        if self.error is not None:
            raise self.error
        rows = self.running.get(recovery.holder, [])
        page, self.running[recovery.holder] = rows[:limit], rows[limit:]
        return page

    async def unknown_names(self, known: Collection[str]) -> set[str]:
        return {name for name, rows in self.unknown.items() if rows and name not in known}

    async def fail_unknown(
        self, name: str, ttl: float | None, callback_hold: float | None, limit: int
    ) -> list[TaskSnapshot]:
        rows = self.unknown.get(name, [])
        page, self.unknown[name] = rows[:limit], rows[limit:]
        return page


@dataclass
class Outcomes:
    """Keeps the outcomes that a service settles, and answers each at once."""

    seen: list[Outcome] = field(default_factory=list)

    def settle(self, outcome: Outcome, done: object) -> None:
        self.seen.append(outcome)
        assert callable(done)
        done(None)
