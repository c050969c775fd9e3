"""Creations: stored, started at once or left waiting, refused, answered in time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from django.db import IntegrityError, OperationalError

from rail_async_tasks.errors import BackendUnavailable
from rail_async_tasks.ledger.records import RowLocked
from tests.runtime.core import Core, SlowLedger
from tests.support.clock import FakeClock


async def body() -> None:
    """A task that does nothing."""


@pytest.fixture
async def ledger(clock: FakeClock) -> SlowLedger:
    return SlowLedger(clock.now)


@pytest.fixture
async def core(clock: FakeClock, ledger: SlowLedger) -> Core:
    core = Core(clock, ledger)
    core.task(body)
    core.empty_queues()
    return core


async def begin(clock: FakeClock, call: Any) -> Any:
    """The creation on its way."""
    creation = asyncio.ensure_future(call)
    await clock.settle()
    return creation


async def test_an_insert_is_a_claim_where_nothing_waits(
    clock: FakeClock, core: Core, ledger: SlowLedger
) -> None:
    """It holds its slot from the start, and its attempt begins with the commit."""
    creations, new = core.creations(), core.new()
    creation = await begin(clock, creations.create(new))
    (stored, _), *none = ledger.creations
    assert (stored.runtime_id, none) == (core.state.id, [])
    assert (core.slots.running, core.outstanding.creations) == (1, 1)
    ledger.answer_creation()
    assert (await creation).status == "pending"
    assert core.outstanding.creations == 0
    assert core.recorder.events[:2] == [("enqueued", "pending"), ("started", "running")]
    assert core.bus.statuses == ["running"]
    assert new.id in core.running.by_id
    assert not core.due.any_due


@pytest.mark.parametrize(
    "case", ["delay", "unique key", "no lease", "unknown task", "broker", "no slot"]
)
async def test_an_execution_waits_where_it_may_not_start_at_once(
    clock: FakeClock, core: Core, ledger: SlowLedger, case: str
) -> None:
    """It is inserted un-held, and the dispatcher expects it."""
    core.state.holding = case != "no lease"
    fields: dict[str, Any] = {"delay": {"delay": 9.0}, "unique key": {"unique_key": "k"}}.get(
        case, {}
    )
    if case == "no slot":
        for _ in range(2):
            core.slots.take("default", False)
    creations = core.creations(runs_here=case != "broker")
    new = core.new("unknown" if case == "unknown task" else "body", **fields)
    creation = await begin(clock, creations.create(new))
    assert ledger.creations[0][0].token is None
    ledger.answer_creation()
    await creation
    assert core.recorder.events == [("enqueued", "pending")]
    assert core.bus.statuses == ["pending"]
    assert core.running.by_id == {}
    if case == "delay":
        await core.wakes_in(clock, 9.0)


async def test_what_waits_is_expected_by_the_dispatcher(
    clock: FakeClock, core: Core, ledger: SlowLedger
) -> None:
    """It is due at once."""
    creation = await begin(clock, core.creations().create(core.new(unique_key="k")))
    assert not core.due.any_due
    ledger.answer_creation()
    await creation
    assert core.due.any_due


async def test_an_execution_with_its_unique_key_comes_back(
    clock: FakeClock, core: Core, ledger: SlowLedger
) -> None:
    """Nothing new is stored or announced."""
    first = core.new(unique_key="k")
    core.ledger.create_here(first)
    creation = await begin(clock, core.creations().create(core.new(unique_key="k")))
    ledger.answer_creation()
    assert (await creation).id == first.id
    assert core.recorder.events == []


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OperationalError("away"), "the database has failed"),
        (RowLocked(), "another transaction has held its unique key for too long"),
    ],
)
async def test_a_creation_that_can_t_be_stored_frees_its_slot_and_refuses_its_caller(
    clock: FakeClock, core: Core, ledger: SlowLedger, error: Exception, message: str
) -> None:
    """With the database's error as the cause."""
    creation = await begin(clock, core.creations().create(core.new()))
    assert core.slots.running == 1
    ledger.answer_creation(error)
    with pytest.raises(BackendUnavailable, match=message) as caught:
        await creation
    assert caught.value.__cause__ is error
    assert (core.slots.running, core.outstanding.creations) == (0, 0)


async def test_an_error_of_the_row_is_the_callers_own(
    clock: FakeClock, core: Core, ledger: SlowLedger
) -> None:
    """The database is well."""
    creation = await begin(clock, core.creations().create(core.new()))
    ledger.answer_creation(IntegrityError("no such parent"))
    with pytest.raises(IntegrityError):
        await creation


async def test_callers_that_have_waited_too_long_are_answered(
    clock: FakeClock, core: Core, ledger: SlowLedger
) -> None:
    """After half a minute. Their executions run all the same, should they be stored later."""
    creations = core.creations()
    creation = await begin(clock, creations.create(core.new()))
    await clock.advance(29)
    later = await begin(clock, creations.create(core.new()))
    creations.answer_overdue()
    await clock.settle()
    assert not creation.done()
    await clock.advance(2)
    creations.answer_overdue()
    await clock.settle()
    assert isinstance(creation.exception(), BackendUnavailable)
    assert not later.done()
    ledger.answer_creation()
    assert len(core.running.by_id) == 1
    later.cancel()


async def test_a_caller_that_is_cancelled_does_not_undo_its_creation(
    clock: FakeClock, core: Core, ledger: SlowLedger
) -> None:
    """The row is on its way."""
    creation = await begin(clock, core.creations().create(core.new()))
    creation.cancel()
    await clock.settle()
    ledger.answer_creation()
    assert len(core.running.by_id) == 1


async def test_nothing_is_created_in_a_drain(core: Core, ledger: SlowLedger) -> None:
    """The caller may try elsewhere."""
    core.state.draining = True
    with pytest.raises(BackendUnavailable, match="shutting down"):
        await core.creations().create(core.new())
    assert ledger.creations == []


class Congested(SlowLedger):
    """A ledger whose writers fall behind until the test relieves it."""

    congested = True

    def __init__(self, now: Any) -> None:
        super().__init__(now)
        self.relief = asyncio.Event()

    async def relieved(self) -> None:
        await self.relief.wait()


@pytest.mark.parametrize("relieved", [True, False])
async def test_creations_wait_while_the_ledger_is_congested(
    clock: FakeClock, relieved: bool
) -> None:
    """For the timeout, and no longer."""
    ledger = Congested(clock.now)
    core = Core(clock, ledger)
    core.task(body)
    creation = await begin(clock, core.creations().create(core.new()))
    await clock.advance(29)
    assert (ledger.creations, creation.done()) == ([], False)
    if relieved:
        ledger.congested = False
        ledger.relief.set()
        await clock.settle()
        ledger.answer_creation()
        await creation
    else:
        await clock.advance(2)
        assert isinstance(creation.exception(), BackendUnavailable)


async def test_what_is_created_past_the_limit_waits_in_line_for_a_slot(
    clock: FakeClock, core: Core, ledger: SlowLedger
) -> None:
    """Until the bodies that begin now have had a step: the short ones free their slots."""
    creations = core.creations(at_once=2)
    waiting = [await begin(clock, creations.create(core.new())) for _ in range(4)]
    assert len(ledger.creations) == 2
    assert core.outstanding.creations == 4
    ledger.answer_creation()
    ledger.answer_creation()
    assert core.slots.running == 2
    await clock.settle()
    assert [stored.token is not None for stored, _ in ledger.creations] == [True, True]
    ledger.answer_creation()
    ledger.answer_creation()
    await asyncio.gather(*waiting)
    assert core.outstanding.creations == 0


async def test_a_unique_key_waits_in_no_line_and_holds_up_none(
    clock: FakeClock, core: Core, ledger: SlowLedger
) -> None:
    """It may wait for the transaction that has the key."""
    creations = core.creations(at_once=1)
    calls = [core.new(unique_key="k"), core.new(), core.new(), core.new(unique_key="l")]
    waiting = [await begin(clock, creations.create(new)) for new in calls]
    assert [stored.unique_key for stored, _ in ledger.creations] == ["k", None, "l"]
    for _ in calls:
        ledger.answer_creation()
        await clock.settle()
    await asyncio.gather(*waiting)


async def test_what_stands_in_line_at_a_drain_is_stored_for_others(
    clock: FakeClock, core: Core, ledger: SlowLedger
) -> None:
    """Its caller was let in before. The process waits for it, and begins nothing."""
    creations = core.creations(at_once=1)
    waiting = [await begin(clock, creations.create(core.new())) for _ in range(2)]
    core.state.draining = True
    ledger.answer_creation(OperationalError("away"))
    await clock.settle()
    ((stored, _),) = ledger.creations
    assert stored.token is None
    assert core.outstanding.creations == 1
    ledger.answer_creation()
    assert (await waiting[1]).status == "pending"
    with pytest.raises(BackendUnavailable):
        await waiting[0]


async def test_many_that_arrive_are_announced_and_due_in_their_time(
    clock: FakeClock, core: Core
) -> None:
    """As if each had arrived by itself."""
    creations = core.creations()
    pages = [[core.new(), core.new()], [core.new(delay=9.0)]]
    made = core.ledger.create_many_here(pages)
    creations.arrived_many(made.fresh[2:])
    assert not core.due.any_due
    await core.wakes_in(clock, 9.0)
    creations.arrived_many(made.fresh[:2])
    assert core.recorder.events == [("enqueued", "pending")] * 3
    assert core.due.any_due


async def test_what_was_created_in_a_transaction_is_announced_when_it_arrives(
    core: Core,
) -> None:
    """And claimed like any other."""
    creations, new = core.creations(), core.new()
    creations.arrived(new, core.ledger.create_here(new))
    assert core.recorder.events == [("enqueued", "pending")]
    assert core.bus.statuses == ["pending"]
    assert core.due.any_due
