"""Queues with a rate, in one process: when they are claimed or sent, and who waits."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from rail_async_tasks.conf import RateLimit
from rail_async_tasks.ledger.memory.ledger import MemoryLedger
from rail_async_tasks.queue_limits import QueueLimits
from rail_async_tasks.registry import Registry
from rail_async_tasks.runtime.claims.broker_dispatcher import BrokerDispatcher
from rail_async_tasks.runtime.claims.deliveries import Deliveries
from rail_async_tasks.runtime.claims.local_dispatcher import ClaimsDue, LocalDispatcher
from rail_async_tasks.runtime.claims.pauses import Pauses
from rail_async_tasks.runtime.claims.rates import Rates
from rail_async_tasks.runtime.claims.sends_due import SendsDue
from rail_async_tasks.runtime.claims.slots import Slots
from rail_async_tasks.runtime.state import RuntimeState
from tests.runtime.conftest import Run, Started
from tests.runtime.fakes import ListBroker, MemoryDispatches, ReadPauses
from tests.support.clock import FakeClock
from tests.support.ledgers import new_execution

TEN = RateLimit(10, 1.0)


@pytest.fixture
def slots() -> Slots:
    """More slots than the tests need."""
    queues = [QueueLimits("default"), QueueLimits("mail", rate=TEN), QueueLimits("high", 10)]
    return Slots(coroutines=9999, threads=1, total=None, queues=queues)


def waiting(ledger: MemoryLedger, count: int, queue: str = "mail", **fields: object) -> None:
    for _ in range(count):
        ledger.create_here(new_execution(queue=queue, **fields))


async def test_a_queue_starts_at_its_rate(
    run: Run, ledger: MemoryLedger, started: Started, dispatcher: LocalDispatcher, clock: FakeClock
) -> None:
    """One at once, then one each tenth of a second; a claim for each, and those of the poll."""
    waiting(ledger, 1000)
    await run()
    assert len(started.ids) == 1
    counts = []
    for _ in range(20):
        before = len(started.ids)
        await clock.advance(1.0)
        counts.append(len(started.ids) - before)
    assert set(counts) <= {9, 10}
    assert 195 <= sum(counts) <= 200
    assert dispatcher.claims <= 250


async def test_other_queues_start_at_once(
    run: Run, ledger: MemoryLedger, started: Started, due: ClaimsDue, slots: Slots,
    clock: FakeClock,
) -> None:  # fmt: skip
    """Also by their insert alone: nothing of the resting queue waits in front of them."""
    waiting(ledger, 50)
    await run()
    assert "mail" in slots.resting
    assert slots.may_start_at_once("default", False)
    assert not slots.may_start_at_once("mail", False)
    new = new_execution()
    ledger.create_here(new)
    due.expect("echo", "default")
    await clock.settle()
    assert started.ids[-1] == new.id


async def test_rows_of_other_queues_that_another_process_left_are_found(
    run: Run, ledger: MemoryLedger, started: Started, clock: FakeClock
) -> None:
    """By the poll, which the tokens do not put off."""
    waiting(ledger, 100)
    await run()
    new = new_execution()
    ledger.create_here(new)
    await clock.advance(1.1)
    assert new.id in started.ids


async def test_an_idle_queue_is_not_asked_for(
    run: Run, ledger: MemoryLedger, dispatcher: LocalDispatcher, clock: FakeClock
) -> None:
    """After its last task the poll alone looks at it."""
    waiting(ledger, 2)
    await run()
    await clock.advance(1.0)
    before = dispatcher.claims
    await clock.advance(10.0)
    assert dispatcher.claims - before <= 11


async def test_rows_that_come_while_it_rests_wait_for_the_token(
    run: Run, ledger: MemoryLedger, started: Started, due: ClaimsDue, clock: FakeClock
) -> None:
    """An announcement of one brings no claim before."""
    waiting(ledger, 3)
    await run()
    await clock.advance(0.1)
    assert len(started.ids) == 2
    waiting(ledger, 1)
    due.expect("echo", "mail")
    await clock.settle()
    assert len(started.ids) == 2
    await clock.advance(0.1)
    assert len(started.ids) == 3
    await clock.advance(0.1)
    assert len(started.ids) == 4


async def test_a_pause_holds_over_tokens(
    run: Run, ledger: MemoryLedger, started: Started, slots: Slots, due: ClaimsDue,
    pauses: Pauses, clock: FakeClock,
) -> None:  # fmt: skip
    """And the rate over a resume: no more start than what came in half a second."""
    waiting(ledger, 100)
    await run()
    ledger.pause_queue("mail", None)
    pauses.changed()
    due.wake()
    await clock.settle()
    before = len(started.ids)
    await clock.advance(5.0)
    assert len(started.ids) == before
    ledger.resume_queue("mail", None)
    pauses.changed()
    due.wake()
    await clock.advance(0.0)
    due.look_everywhere()
    await clock.settle()
    assert len(started.ids) == before + 6


async def test_a_high_rate_is_claimed_in_few_batches(
    ledger: MemoryLedger, registry: Registry, state: RuntimeState, pauses: Pauses,
    clock: FakeClock,
) -> None:  # fmt: skip
    """Forty claims a second, not a thousand."""
    queues = [QueueLimits("mail", rate=RateLimit(1000, 1.0))]
    slots = Slots(coroutines=9999, threads=1, total=None, queues=queues)
    due = ClaimsDue(slots=slots, registry=registry, state=state, pauses=pauses)
    started = Started(slots)
    dispatcher = LocalDispatcher(
        ledger=ledger, registry=registry, slots=slots, state=state, due=due, start=started,
        pauses=pauses, suspects_running=lambda: False, running_by_owner=lambda queue: {},
        max_crashes=3,
    )  # fmt: skip
    waiting(ledger, 5000)
    running = asyncio.create_task(dispatcher.run())
    await clock.advance(4.0)
    assert len(started.ids) == pytest.approx(4050, abs=30)
    assert dispatcher.claims < 200
    state.draining = True
    due.wake()
    await running


async def test_owners_have_had_turns_by_their_latest_starts(clock: FakeClock) -> None:
    """The last 64 of a queue with a rate, in place of what runs, which is gone by the next one."""
    slots = Slots(9, 1, None, [QueueLimits("default"), QueueLimits("mail", rate=TEN)])
    rates = Rates(slots=slots, refilled=slots.refill)
    ledger = MemoryLedger(now=clock.now)
    started = Counter({"a": 70, "b": 30})
    for owner, count in started.items():
        for _ in range(count):
            new = new_execution(queue="mail", owner_id=owner)
            ledger.create_here(new)
            claimed = ledger.claim_here(new.id, new.id, new.id)
            assert claimed is not None
            rates.started([claimed])
    assert rates.turns("mail", {"c": 1}) == {"a": 34, "b": 30}
    assert rates.turns("default", {"c": 1}) == {"c": 1}


# --- by way of a broker ---------------------------------------------------------------------------


async def test_a_delivery_without_a_token_waits_for_it(
    ledger: MemoryLedger, state: RuntimeState, registry: Registry, started: Started,
    clock: FakeClock,
) -> None:  # fmt: skip
    """In its worker where that is soon; else it is handed back, and sent again."""
    dispatches = MemoryDispatches(ledger, clock)
    deliveries = Deliveries(
        dispatches=dispatches, state=state, names=registry.names, start=started,
        pauses=ReadPauses(), suspects_running=lambda: False, max_crashes=3, rates={"mail": TEN},
    )  # fmt: skip
    news = [new_execution(queue="mail") for _ in range(6)]
    for new in news:
        ledger.create_here(new)
    tasks = [asyncio.create_task(deliveries.attempt(new.id)) for new in news]
    await clock.settle()
    assert started.ids == [news[0].id]
    assert dispatches.released == [{new.id for new in news[4:]}]
    assert [task.done() for task in tasks] == [False] * 4 + [True] * 2
    assert tasks[5].result() is False
    for count in (2, 3, 4):
        await clock.advance(0.1)
        assert started.ids == [new.id for new in news[:count]]
    for claimed in started.claims:
        deliveries.settled(claimed.snapshot.id, claimed.token)
    assert await asyncio.gather(*tasks[:4]) == [True] * 4


async def test_a_drain_hands_waiting_deliveries_back(
    ledger: MemoryLedger, state: RuntimeState, registry: Registry, started: Started,
    clock: FakeClock,
) -> None:  # fmt: skip
    """At once, without a token."""
    dispatches = MemoryDispatches(ledger, clock)
    deliveries = Deliveries(
        dispatches=dispatches, state=state, names=registry.names, start=started,
        pauses=ReadPauses(), suspects_running=lambda: False, max_crashes=3, rates={"mail": TEN},
    )  # fmt: skip
    news = [new_execution(queue="mail") for _ in range(3)]
    for new in news:
        ledger.create_here(new)
    tasks = [asyncio.create_task(deliveries.attempt(new.id)) for new in news]
    await clock.settle()
    state.draining = True
    deliveries.notice()
    await clock.settle()
    assert [task.result() for task in tasks[1:]] == [False, False]
    assert dispatches.released == [{new.id for new in news[1:]}]
    for claimed in started.claims:
        deliveries.settled(claimed.snapshot.id, claimed.token)
    assert await tasks[0] is True


async def test_ids_are_sent_as_their_tokens_come(
    ledger: MemoryLedger, slots: Slots, state: RuntimeState, pauses: Pauses, clock: FakeClock
) -> None:
    """A little ahead of them; other queues are sent at once."""
    dispatches, broker = MemoryDispatches(ledger, clock), ListBroker()
    due = SendsDue(slots=slots, state=state, pauses=pauses)
    dispatcher = BrokerDispatcher(
        ledger=ledger, dispatches=dispatches, broker=broker, slots=slots, state=state, due=due,
        pauses=pauses, max_concurrency=9,
    )  # fmt: skip
    waiting(ledger, 100)
    due.look_everywhere()
    running = asyncio.create_task(dispatcher.run())
    await clock.settle()
    assert len(broker.sent) == 2
    waiting(ledger, 5, "default")
    due.expect("echo", "default")
    await clock.settle()
    assert Counter(it.queue for it in broker.sent) == {"mail": 2, "default": 5}

    async def work() -> None:
        """Claims what has been sent, as soon as there is a token."""
        for _ in range(500):
            for dispatch in [*broker.sent]:
                row = ledger.get(dispatch.id)
                assert row is not None
                if row.status == "pending":
                    rate = slots.rates.get(row.queue)
                    found = ledger.claim_here(row.id, state.id, row.id, rate)
                    if found is not None:
                        dispatches.marks.pop(row.id, None)
            await asyncio.sleep(0.01)

    worker = asyncio.create_task(work())
    await clock.advance(5.0)
    rows = ledger.get_many([it.id for it in broker.sent])
    begun = [it for it in rows if it.queue == "mail" and it.status == "running"]
    assert len(begun) == pytest.approx(51, abs=1)
    assert broker.pushes < 70
    worker.cancel()
    state.draining = True
    due.wake()
    await running
