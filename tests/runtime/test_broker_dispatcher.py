"""The broker dispatcher: sends due rows to workers, and again what was lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from django.db import OperationalError

from rail_async_tasks.ledger.memory.ledger import MemoryLedger
from rail_async_tasks.runtime.claims.broker_dispatcher import BrokerDispatcher, BrokerTimings
from rail_async_tasks.runtime.claims.inventory import InventoryTimings
from rail_async_tasks.runtime.claims.pauses import Pauses
from rail_async_tasks.runtime.claims.sends_due import REFILL, SendsDue
from rail_async_tasks.runtime.claims.slots import Slots
from rail_async_tasks.runtime.state import RuntimeState
from tests.runtime.fakes import ListBroker, ListInventory, MemoryDispatches
from tests.support.clock import FakeClock
from tests.support.ledgers import new_execution

Run = Callable[[ListBroker], Awaitable[BrokerDispatcher]]


@pytest.fixture
async def dispatches(ledger: MemoryLedger, clock: FakeClock) -> MemoryDispatches:
    return MemoryDispatches(ledger, clock)


@pytest.fixture
async def due(slots: Slots, state: RuntimeState, pauses: Pauses, clock: FakeClock) -> SendsDue:
    return SendsDue(slots=slots, state=state, pauses=pauses)


@pytest.fixture
async def run(
    ledger: MemoryLedger, dispatches: MemoryDispatches, slots: Slots, state: RuntimeState,
    pauses: Pauses, due: SendsDue, clock: FakeClock,
) -> Run:  # fmt: skip
    """Starts a dispatcher for a broker. The loop of the test ends it."""
    tasks = []

    async def start(broker: ListBroker) -> BrokerDispatcher:
        dispatcher = BrokerDispatcher(
            ledger=ledger, dispatches=dispatches, broker=broker, slots=slots, state=state, due=due,
            pauses=pauses, max_concurrency=1,
            timings=BrokerTimings(push_timeout=5.0, shortest_pause=0.5, longest_pause=3.0),
            inventory_timings=InventoryTimings(ask_every=3.0, ask_after=5.0),
        )  # fmt: skip
        tasks.append(asyncio.create_task(dispatcher.run()))
        due.expect("echo", "default")
        await clock.settle()
        return dispatcher

    return start


async def test_a_due_row_is_sent_once(run: Run, ledger: MemoryLedger, clock: FakeClock) -> None:
    """It is not sent again while it may still be under way."""
    new = new_execution()
    ledger.create_here(new)
    broker = ListBroker()
    await run(broker)
    await clock.advance(50)
    assert [(it.id, it.number) for it in broker.sent] == [(new.id, 1)]


async def test_a_delayed_row_is_sent_when_it_comes_due(
    run: Run, ledger: MemoryLedger, clock: FakeClock
) -> None:
    """The broker knows of no delay."""
    ledger.create_here(new_execution(delay=0.25))
    broker = ListBroker()
    await run(broker)
    await clock.advance(0.24)
    assert broker.sent == []
    await clock.advance(0.02)
    assert len(broker.sent) == 1


async def test_an_overdue_row_is_sent_again_with_a_warning(
    run: Run, ledger: MemoryLedger, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """One for each queue and minute."""
    first, second = new_execution(), new_execution()
    ledger.create_here(first)
    broker = ListBroker()
    await run(broker)
    await clock.advance(10)
    ledger.create_here(second)
    await clock.advance(64)
    assert [(it.id, it.number) for it in broker.sent] == [
        (first.id, 1), (second.id, 1), (first.id, 2), (second.id, 2),
    ]  # fmt: skip
    assert caplog.text.count("The queue 'default': 1 task, sent to list") == 1
    await clock.advance(50)
    assert caplog.text.count("Does a worker serve this queue?") == 2


async def test_no_more_than_a_window_is_under_way(
    run: Run, ledger: MemoryLedger, due: SendsDue, dispatches: MemoryDispatches, clock: FakeClock
) -> None:
    """Once enough attempts have ended here it is filled up, before the next poll."""
    for _ in range(130):
        ledger.create_here(new_execution())
    broker = ListBroker()
    await run(broker)
    assert len(broker.sent) == 100
    for dispatch in broker.sent[:REFILL]:  # workers have taken them
        del dispatches.marks[dispatch.id]
        ledger.cancel(dispatch.id, None)
        due.slot_freed("default")
    await clock.settle()
    assert len(broker.sent) == 100 + REFILL


async def test_a_process_that_has_sent_nothing_refills_what_it_runs(
    run: Run, ledger: MemoryLedger, due: SendsDue, clock: FakeClock
) -> None:
    """A worker, whose web process is idle by now. Attempts of other queues do not count."""
    broker = ListBroker()
    await run(broker)
    ledger.create_here(new_execution())  # elsewhere: nothing here expects it
    for queue in ("default", "mail"):
        for _ in range(REFILL - 1):
            due.slot_freed(queue)
    await clock.settle()
    assert broker.sent == []
    due.slot_freed("default")
    await clock.settle()
    assert len(broker.sent) == 1


async def test_rows_are_made_due_when_it_is_time_and_not_at_each_look(
    run: Run, ledger: MemoryLedger, due: SendsDue, clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """It is a statement of its own. One that has failed is made up for."""
    broker, claim, staged = ListBroker(), ledger.claim, []

    async def counted(plan: Any) -> Any:
        staged.append(plan)
        if len(staged) == 2:
            raise OperationalError("away")
        return await claim(plan)

    monkeypatch.setattr(ledger, "claim", counted)
    ledger.create_here(new_execution(delay=1.0))
    await run(broker)
    for _ in range(3):
        ledger.create_here(new_execution())
        due.expect("echo", "default")
        await clock.settle()
    assert (len(broker.sent), len(staged)) == (3, 1)
    await clock.advance(1.1)
    assert len(staged) == 2
    await clock.advance(0.6)
    assert (len(broker.sent), len(staged)) == (4, 3)


async def test_a_broker_that_refuses_is_tried_again_after_growing_pauses(
    run: Run, ledger: MemoryLedger, dispatches: MemoryDispatches, clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """The rows are un-marked meanwhile: another process may send them. Two lines in the log."""
    new = new_execution()
    ledger.create_here(new)
    broker = ListBroker()
    broker.error = ConnectionError("refused")
    dispatcher = await run(broker)
    assert dispatches.marks == {}
    assert not await dispatcher.send_all(["default"])
    await clock.advance(10)
    assert 4 <= broker.pushes <= 10
    broker.error = None
    await clock.advance(3)
    assert [it.id for it in broker.sent] == [new.id]
    assert caplog.text.count("The broker list does not take tasks: refused") == 1
    assert "The broker list takes tasks again" in caplog.text
    assert await dispatcher.send_all(["default"])


async def test_a_broker_that_hangs_is_given_up_after_its_timeout(
    run: Run, ledger: MemoryLedger, dispatches: MemoryDispatches, clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """Five seconds here."""

    class Hanging(ListBroker):
        async def push(self, dispatches: object) -> None:
            await asyncio.Event().wait()

    ledger.create_here(new_execution())
    await run(Hanging())
    await clock.advance(4.9)
    assert len(dispatches.marks) == 1
    await clock.advance(0.2)
    assert dispatches.marks == {}
    assert "The broker list does not take tasks: it does not answer" in caplog.text


async def test_an_error_of_the_database_is_not_called_the_brokers(
    run: Run, dispatches: MemoryDispatches, ledger: MemoryLedger, clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """Sending goes on once it is over."""
    ledger.create_here(new_execution())
    dispatches.error = OperationalError("away")
    broker = ListBroker()
    await run(broker)
    dispatches.error = None
    await clock.advance(1)
    assert len(broker.sent) == 1
    assert "Due tasks could not be sent to workers: away" in caplog.text
    assert "does not take tasks" not in caplog.text


async def test_a_mark_of_a_locked_row_is_taken_away_later(
    run: Run, ledger: MemoryLedger, dispatches: MemoryDispatches, clock: FakeClock
) -> None:
    """When its lock is gone."""
    new = new_execution()
    ledger.create_here(new)

    class Refusing(ListBroker):
        async def push(self, sent: object) -> None:
            dispatches.locked = {new.id}
            raise ConnectionError("refused")

    await run(Refusing())
    assert new.id in dispatches.marks
    dispatches.locked = set()
    dispatches.overdue_after = 1e9
    await clock.advance(0.6)
    assert dispatches.counts[new.id] == 2  # its mark went, so it was sent again


async def test_what_a_broker_has_lost_is_sent_again(
    run: Run, ledger: MemoryLedger, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It is asked only about what has been under way for a time."""
    rows = [new_execution() for _ in range(2)]
    for new in rows:
        ledger.create_here(new)
    broker = ListInventory()
    await run(broker)
    broker.lost = {rows[1].id}
    await clock.advance(4)
    assert broker.asked == []
    await clock.advance(3)
    assert broker.asked == [[it.id for it in sorted(rows, key=lambda row: row.id)]]
    assert [(it.id, it.number) for it in broker.sent[2:]] == [(rows[1].id, 2)]
    assert "The broker list has lost 1 task, sent again" in caplog.text


async def test_a_broker_that_can_not_answer_is_sent_to_all_the_same(
    run: Run, ledger: MemoryLedger, due: SendsDue, clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """And asked again later; the log says so once."""
    ledger.create_here(new_execution())
    broker = ListInventory()
    broker.asking_error = NotImplementedError("no such command")
    await run(broker)
    await clock.advance(10)
    assert len(broker.asked) >= 2
    ledger.create_here(new_execution())
    due.expect("echo", "default")
    await clock.settle()
    assert len(broker.sent) == 2
    assert caplog.text.count("does not say what it has: no such command") == 1


async def test_a_drain_ends_it(
    run: Run, due: SendsDue, state: RuntimeState, ledger: MemoryLedger, clock: FakeClock
) -> None:
    """Nothing is sent after it."""
    broker = ListBroker()
    await run(broker)
    state.draining = True
    due.wake()
    ledger.create_here(new_execution())
    await clock.advance(5)
    assert broker.sent == []
