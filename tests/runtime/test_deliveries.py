"""Deliveries: a delivered id runs once, here or nowhere."""

from __future__ import annotations

import asyncio

import pytest
from django.db import OperationalError

from rail_async_tasks.declaration.definition import define
from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.memory.ledger import MemoryLedger
from rail_async_tasks.registry import Registry
from rail_async_tasks.runtime.claims.deliveries import Deliveries, Delivery
from rail_async_tasks.runtime.claims.slots import Slots
from rail_async_tasks.runtime.names import NameFinder
from rail_async_tasks.runtime.state import RuntimeState
from tests.runtime.conftest import Started
from tests.runtime.fakes import MemoryDispatches, ReadPauses
from tests.support.clock import FakeClock
from tests.support.ledgers import new_execution


class Suspects:
    """Says whether a suspect runs; a test sets it."""

    running = False

    def __call__(self) -> bool:
        return self.running


@pytest.fixture
async def dispatches(ledger: MemoryLedger, clock: FakeClock) -> MemoryDispatches:
    return MemoryDispatches(ledger, clock)


@pytest.fixture
def suspects() -> Suspects:
    return Suspects()


@pytest.fixture
async def deliveries(
    dispatches: MemoryDispatches, state: RuntimeState, registry: Registry, started: Started,
    suspects: Suspects,
) -> Deliveries:  # fmt: skip
    return Deliveries(
        dispatches=dispatches, state=state, names=registry.names, start=started,
        pauses=ReadPauses(), suspects_running=suspects, max_crashes=3,
    )  # fmt: skip


async def test_an_id_is_claimed_and_its_caller_waits_for_the_outcome(
    deliveries: Deliveries, ledger: MemoryLedger, started: Started, state: RuntimeState,
    clock: FakeClock,
) -> None:  # fmt: skip
    """True: it ran here."""
    new = new_execution()
    ledger.create_here(new)
    delivery = asyncio.create_task(deliveries.attempt(new.id))
    await clock.settle()
    assert started.ids == [new.id]
    assert started.held_by == [state.id]
    assert not delivery.done()
    deliveries.settled(new.id, started.claims[0].token)
    assert await delivery is True


async def test_a_slot_is_free_before_the_outcome_is_stored(
    deliveries: Deliveries, ledger: MemoryLedger, started: Started, clock: FakeClock
) -> None:
    """A worker may take another id while the database stores the outcome."""
    new = new_execution()
    ledger.create_here(new)
    said: list[object] = []
    deliveries.bring(new.id, Delivery(said.append, lambda: said.append("freed")))
    await clock.settle()
    token = started.claims[0].token
    deliveries.slot_freed(new.id, new_id())  # an attempt of before
    assert said == []
    deliveries.slot_freed(new.id, token)
    assert said == ["freed"]
    deliveries.settled(new.id, token)
    assert said == ["freed", True]
    deliveries.slot_freed(new.id, token)
    assert said == ["freed", True]


async def test_ids_of_one_moment_are_claimed_together(
    deliveries: Deliveries, ledger: MemoryLedger, dispatches: MemoryDispatches, clock: FakeClock
) -> None:
    """One statement for all of them."""
    rows = [new_execution() for _ in range(2)]
    for new in rows:
        ledger.create_here(new)
    tasks = [asyncio.create_task(deliveries.attempt(new.id)) for new in rows]
    await clock.settle()
    assert dispatches.claims == [{new.id for new in rows}]
    assert not any(task.done() for task in tasks)


@pytest.mark.parametrize("kind", ["unknown id", "cancelled", "unknown task"])
async def test_what_can_not_run_here_is_dropped(
    deliveries: Deliveries, ledger: MemoryLedger, started: Started, kind: str
) -> None:
    """False, and counted."""
    new = new_execution(name="newer" if kind == "unknown task" else "echo")
    if kind != "unknown id":
        ledger.create_here(new)
    if kind == "cancelled":
        ledger.cancel(new.id, None)
    assert await deliveries.attempt(new.id) is False
    assert deliveries.dropped == 1
    assert started.claims == []


async def test_an_id_that_comes_twice_runs_once(
    deliveries: Deliveries, ledger: MemoryLedger, started: Started, clock: FakeClock
) -> None:
    """At once, and while it runs."""
    new = new_execution()
    ledger.create_here(new)
    first, second = [asyncio.create_task(deliveries.attempt(new.id)) for _ in range(2)]
    assert await second is False
    assert await deliveries.attempt(new.id) is False
    assert len(started.claims) == 1
    assert deliveries.dropped == 2
    deliveries.settled(new.id, started.claims[0].token)
    assert await first is True


async def test_the_end_of_another_attempt_does_not_end_a_delivery(
    deliveries: Deliveries, ledger: MemoryLedger, clock: FakeClock
) -> None:
    """An attempt is known by its token."""
    new = new_execution()
    ledger.create_here(new)
    delivery = asyncio.create_task(deliveries.attempt(new.id))
    await clock.settle()
    deliveries.settled(new.id, new_id())
    await clock.settle()
    assert not delivery.done()


async def test_a_locked_row_is_looked_at_again(
    deliveries: Deliveries, ledger: MemoryLedger, dispatches: MemoryDispatches, started: Started,
    clock: FakeClock,
) -> None:  # fmt: skip
    """At growing intervals, and it runs once its lock is gone."""
    new = new_execution()
    ledger.create_here(new)
    dispatches.locked = {new.id}
    delivery = asyncio.create_task(deliveries.attempt(new.id))
    await clock.advance(0.1)
    looks = len(dispatches.claims)
    assert 3 <= looks <= 5
    await clock.advance(10)
    assert len(dispatches.claims) - looks <= 30
    dispatches.locked = set()
    await clock.advance(0.5)
    assert started.ids == [new.id]
    assert not delivery.done()


async def test_a_suspect_waits_for_the_one_that_runs(
    deliveries: Deliveries, ledger: MemoryLedger, dispatches: MemoryDispatches, started: Started,
    suspects: Suspects, clock: FakeClock,
) -> None:  # fmt: skip
    """Two of them are never in one process at once."""
    rows = [new_execution() for _ in range(2)]
    for new in rows:
        ledger.create_here(new)
    dispatches.suspects = {new.id for new in rows}
    tasks = [asyncio.create_task(deliveries.attempt(new.id)) for new in rows]
    await clock.settle()
    assert started.ids == [rows[0].id]
    suspects.running = True
    deliveries.settled(new_id(), new_id())  # of another task
    await clock.settle()
    assert started.ids == [rows[0].id]
    assert len(dispatches.claims) == 1  # no statement for nothing
    suspects.running = False
    deliveries.settled(rows[0].id, started.claims[0].token)
    await clock.settle()
    assert started.ids == [new.id for new in rows]
    assert not tasks[1].done()


async def test_ids_wait_for_a_lease(
    deliveries: Deliveries, ledger: MemoryLedger, state: RuntimeState, started: Started,
    clock: FakeClock,
) -> None:  # fmt: skip
    """And are claimed when it begins."""
    state.holding = False
    new = new_execution()
    ledger.create_here(new)
    delivery = asyncio.create_task(deliveries.attempt(new.id))
    await clock.settle()
    assert started.claims == []
    state.holding = True
    deliveries.notice()
    await clock.settle()
    assert started.ids == [new.id]
    assert not delivery.done()


async def test_a_draining_process_releases_what_arrives(
    deliveries: Deliveries, ledger: MemoryLedger, dispatches: MemoryDispatches,
    state: RuntimeState, started: Started,
) -> None:  # fmt: skip
    """Other processes may have it at once."""
    new = new_execution()
    ledger.create_here(new)
    state.draining = True
    assert await deliveries.attempt(new.id) is False
    assert dispatches.released == [{new.id}]
    assert started.claims == []


async def test_a_drain_gives_a_locked_row_up_in_about_a_second(
    deliveries: Deliveries, ledger: MemoryLedger, dispatches: MemoryDispatches,
    state: RuntimeState, clock: FakeClock,
) -> None:  # fmt: skip
    """It is offered to others some times, and left to be sent again."""
    new = new_execution()
    ledger.create_here(new)
    dispatches.locked = {new.id}
    delivery = asyncio.create_task(deliveries.attempt(new.id))
    await clock.advance(5)
    state.draining = True
    deliveries.notice()
    await clock.advance(2)
    assert delivery.result() is False
    assert len(dispatches.released) == 7


async def test_a_claim_that_fails_drops_what_it_was_for(
    deliveries: Deliveries, ledger: MemoryLedger, dispatches: MemoryDispatches,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """It is sent again; the next delivery is claimed."""
    new = new_execution()
    ledger.create_here(new)
    dispatches.error = OperationalError("away")
    assert await deliveries.attempt(new.id) is False
    assert "can't be claimed" in caplog.text


async def test_an_attempt_that_does_not_start_ends_its_delivery(
    deliveries: Deliveries, ledger: MemoryLedger, started: Started,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """Its caller must not wait for ever."""
    new = new_execution()
    ledger.create_here(new)
    started.errors = [ValueError("no slot")]
    assert await deliveries.attempt(new.id) is True
    assert "was claimed and did not start" in caplog.text


async def test_a_cancelled_caller_cancels_nothing(
    deliveries: Deliveries, ledger: MemoryLedger, started: Started, slots: Slots, clock: FakeClock
) -> None:
    """The attempt goes on."""
    new = new_execution()
    ledger.create_here(new)
    delivery = asyncio.create_task(deliveries.attempt(new.id))
    await clock.settle()
    delivery.cancel()
    await clock.settle()
    assert slots.running == 1
    deliveries.settled(new.id, started.claims[0].token)


async def late(number: int) -> int:
    return number


async def test_an_id_whose_task_can_be_learnt_runs(
    dispatches: MemoryDispatches, ledger: MemoryLedger, state: RuntimeState, registry: Registry,
    started: Started, suspects: Suspects, clock: FakeClock,
) -> None:  # fmt: skip
    """Its module was not imported here; what stays unknown is dropped."""
    asked: list[str] = []

    def find(name: str) -> None:
        asked.append(name)
        if name == "late":
            registry.register(define(late, name="late"))

    registry.add_finder(find)
    learnt: list[None] = []
    names = NameFinder(registry=registry, reads=ledger, learnt=lambda: learnt.append(None))
    deliveries = Deliveries(
        dispatches=dispatches, state=state, names=registry.names, start=started,
        pauses=ReadPauses(), suspects_running=suspects, max_crashes=3, learn=names.learn_of,
    )  # fmt: skip
    found, gone = new_execution(name="late"), new_execution(name="gone")
    for new in (found, gone):
        ledger.create_here(new)
    delivery = asyncio.create_task(deliveries.attempt(found.id))
    assert await deliveries.attempt(gone.id) is False
    assert started.ids == [found.id]
    deliveries.settled(found.id, started.claims[0].token)
    assert await delivery is True
    assert learnt == [None]
    # A name that was not found is not sought again.
    assert await deliveries.attempt(gone.id) is False
    assert asked == ["gone", "late"]


async def test_an_id_is_dropped_whose_name_can_not_be_read(
    dispatches: MemoryDispatches, ledger: MemoryLedger, state: RuntimeState, registry: Registry,
    started: Started, suspects: Suspects, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """The broker's caller is answered all the same."""

    async def learn(execution_ids: object) -> bool:
        raise OperationalError("away")

    deliveries = Deliveries(
        dispatches=dispatches, state=state, names=registry.names, start=started,
        pauses=ReadPauses(), suspects_running=suspects, max_crashes=3, learn=learn,
    )  # fmt: skip
    new = new_execution(name="gone")
    ledger.create_here(new)
    assert await deliveries.attempt(new.id) is False
    assert "can't be read" in caplog.text
