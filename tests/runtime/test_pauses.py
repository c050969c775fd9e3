"""Paused queues: nothing of them is claimed, sent, or inserted as running."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from uuid import UUID

from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.memory.ledger import MemoryLedger
from rail_async_tasks.queue_limits import QueueLimits
from rail_async_tasks.registry import Registry
from rail_async_tasks.runtime.claims.broker_dispatcher import BrokerDispatcher
from rail_async_tasks.runtime.claims.deliveries import Deliveries
from rail_async_tasks.runtime.claims.local_dispatcher import ClaimsDue, LocalDispatcher
from rail_async_tasks.runtime.claims.pauses import MAX_AGE_SECONDS, Pauses
from rail_async_tasks.runtime.claims.sends_due import SendsDue
from rail_async_tasks.runtime.claims.slots import Slots
from rail_async_tasks.runtime.state import RuntimeState
from tests.runtime.conftest import Started
from tests.runtime.core import Core
from tests.runtime.fakes import ListBroker, MemoryDispatches
from tests.support.clock import FakeClock
from tests.support.ledgers import new_execution


class Reads:
    """Answers with `queues`; counts its reads, each of which takes `seconds`."""

    def __init__(self, *queues: str) -> None:
        self.queues: Collection[str] = queues
        self.count = 0
        self.seconds = 0.0

    async def paused_queues(self) -> Collection[str]:
        self.count += 1
        found = list(self.queues)
        await asyncio.sleep(self.seconds)
        return found


async def test_what_is_known_is_used_for_a_while(clock: FakeClock) -> None:
    """Then it is read again, before anything starts by it."""
    reads, held = Reads("low"), list[frozenset[str]]()
    pauses = Pauses(reads=reads, hold=held.append)
    assert not pauses.known
    await pauses.up_to_date()
    assert pauses.known
    await clock.advance(MAX_AGE_SECONDS - 0.1)
    await pauses.up_to_date()
    assert reads.count == 1
    await clock.advance(0.2)
    assert not pauses.known
    await pauses.up_to_date()
    assert reads.count == 2
    assert held == [{"low"}]  # once: nothing has changed since


async def test_the_age_counts_from_the_beginning_of_a_read(clock: FakeClock) -> None:
    """A slow read is used for its claim, and is no knowledge for the next one."""
    reads = Reads("low")
    reads.seconds = MAX_AGE_SECONDS + 1
    pauses = Pauses(reads=reads, hold=lambda paused: None)
    reading = asyncio.create_task(pauses.up_to_date())
    await clock.settle()
    await clock.advance(reads.seconds + 0.1)
    await reading
    assert (reads.count, pauses.known) == (1, False)


async def test_a_change_during_a_read_is_read_again(clock: FakeClock) -> None:
    """The read may have come before the change."""
    reads = Reads()
    reads.seconds = 0.5
    pauses = Pauses(reads=reads, hold=lambda paused: None)
    reading = asyncio.create_task(pauses.up_to_date())
    await clock.settle()
    reads.queues = ["low"]
    pauses.changed()
    await clock.advance(0.6)
    assert not reading.done()
    assert pauses.outdated
    await clock.advance(0.6)
    await reading
    assert (pauses.queues, pauses.outdated, reads.count) == ({"low"}, False, 2)


def slots_of(*names: str) -> Slots:
    return Slots(coroutines=2, threads=1, total=None, queues=[QueueLimits(it) for it in names])


def emptied(slots: Slots) -> Slots:
    """Has the slots know that nothing waits in any queue that is not paused."""
    plan = slots.plan(new_id(), {"a"}, {"b"})
    for claim in plan.claims():
        plan.took(claim, 0)
    slots.learn(plan)
    return slots


async def test_a_plan_leaves_paused_queues_out() -> None:
    """They are looked at after the pause, whatever came in meanwhile."""
    slots = slots_of("high", "low")
    slots.hold(frozenset({"low"}))
    plan = slots.plan(new_id(), {"a"}, {"b"})
    asked = []
    for claim in plan.claims():
        asked.append(claim.queue)
        plan.took(claim, 0)
    slots.learn(plan)
    assert set(asked) == {"high"}
    slots.expect("low", False)
    assert not slots.worth_a_claim
    assert not slots.may_start_at_once("low", False)
    slots.hold(frozenset())
    assert slots.worth_a_claim
    assert {it.queue for it in slots.plan(new_id(), {"a"}, {"b"}).claims()} == {"low"}


async def test_a_crowd_in_a_paused_queue_holds_up_no_other() -> None:
    """Executions of another queue still start at once."""
    slots = emptied(slots_of("high", "low"))
    for _ in range(100):
        slots.expect("low", False)
    slots.hold(frozenset({"low"}))
    for _ in range(100):
        slots.expect("low", False)
    assert slots.may_start_at_once("high", False)


async def test_a_creation_in_a_paused_queue_waits(clock: FakeClock) -> None:
    """Its insert is no claim, though a slot is free."""
    core = Core(clock)

    async def body() -> None: ...

    core.task(body)
    core.empty_queues()
    core.slots.hold(frozenset({"default"}))
    snapshot = await core.creations().create(core.new())
    assert core.status(snapshot.id) == "pending"
    assert core.slots.running == 0


async def test_a_creation_waits_while_the_pauses_are_not_known(clock: FakeClock) -> None:
    """The dispatcher reads them, and starts it then."""
    core = Core(clock)

    async def body() -> None: ...

    core.task(body)
    core.empty_queues()
    core.pauses = Pauses(reads=core.ledger, hold=core.slots.hold)  # type: ignore[assignment]
    snapshot = await core.creations().create(core.new())
    assert core.status(snapshot.id) == "pending"
    await core.pauses.read()
    core.empty_queues()
    snapshot = await core.creations().create(core.new())
    assert core.status(snapshot.id) == "running"


async def test_the_dispatcher_claims_nothing_of_a_paused_queue(
    ledger: MemoryLedger, registry: Registry, slots: Slots, state: RuntimeState, pauses: Pauses,
    started: Started, clock: FakeClock,
) -> None:  # fmt: skip
    """The pause is read before the first claim; after a resume it starts at once."""
    new = new_execution()
    ledger.create_here(new)
    ledger.pause_queue("default", None)
    due = ClaimsDue(slots=slots, registry=registry, state=state, pauses=pauses)
    dispatcher = LocalDispatcher(
        ledger=ledger, registry=registry, slots=slots, state=state, due=due, start=started,
        pauses=pauses, suspects_running=lambda: False, running_by_owner=lambda queue: {},
        max_crashes=3,
    )  # fmt: skip
    task = asyncio.create_task(dispatcher.run())
    await clock.advance(10)
    assert started.ids == []
    ledger.resume_queue("default", None)
    pauses.changed()
    due.wake()
    await clock.settle()
    assert started.ids == [new.id]
    state.draining = True
    due.wake()
    await task


async def test_the_dispatcher_sends_nothing_of_a_paused_queue(
    ledger: MemoryLedger, slots: Slots, state: RuntimeState, pauses: Pauses, clock: FakeClock
) -> None:
    """Neither new rows nor overdue ones, until the queue is resumed."""
    new, broker = new_execution(), ListBroker()
    ledger.create_here(new)
    ledger.pause_queue("default", None)
    due = SendsDue(slots=slots, state=state, pauses=pauses)
    dispatcher = BrokerDispatcher(
        ledger=ledger, dispatches=MemoryDispatches(ledger, clock), broker=broker, slots=slots,
        state=state, due=due, pauses=pauses, max_concurrency=1,
    )  # fmt: skip
    task = asyncio.create_task(dispatcher.run())
    due.expect("echo", "default")
    await clock.advance(10)
    assert broker.sent == []
    ledger.resume_queue("default", None)
    pauses.changed()
    due.look_everywhere()
    await clock.settle()
    due.look_everywhere()
    await clock.settle()
    assert [it.id for it in broker.sent] == [new.id]
    state.draining = True
    due.wake()
    await task


async def test_a_delivered_id_of_a_paused_queue_is_handed_back(
    ledger: MemoryLedger, registry: Registry, state: RuntimeState, pauses: Pauses,
    started: Started, clock: FakeClock,
) -> None:  # fmt: skip
    """Its row is marked as not sent, at no cost; a locked one is looked at again."""
    dispatches = MemoryDispatches(ledger, clock)
    ids: list[UUID] = []
    for _ in range(2):
        new = new_execution()
        ledger.create_here(new)
        ids.append(new.id)
    await dispatches.send("default", "list", 10, 10)
    ledger.pause_queue("default", None)
    deliveries = Deliveries(
        dispatches=dispatches, state=state, names=registry.names, start=started, pauses=pauses,
        suspects_running=lambda: False, max_crashes=3,
    )  # fmt: skip
    assert await asyncio.gather(*map(deliveries.attempt, ids)) == [False, False]
    assert (started.ids, dispatches.marks, deliveries.dropped) == ([], {}, 0)
    assert [row.snapshot.attempts for row in ledger.store.rows.values()] == [0, 0]
