"""The local dispatcher: claims due rows for free slots, soon after they are due."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from django.db import OperationalError

from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.memory.ledger import MemoryLedger
from rail_async_tasks.ledger.port import ClaimPlan
from rail_async_tasks.ledger.records import ClaimResult
from rail_async_tasks.registry import Registry
from rail_async_tasks.runtime.claims.local_dispatcher import ClaimsDue, LocalDispatcher
from rail_async_tasks.runtime.claims.pauses import Pauses
from rail_async_tasks.runtime.claims.slots import Slots
from rail_async_tasks.runtime.state import RuntimeState
from tests.runtime.conftest import Announced, Run, Started
from tests.runtime.fakes import ReadPauses
from tests.support.clock import FakeClock
from tests.support.ledgers import new_execution


class Faulty(MemoryLedger):
    """Raises the errors that a test has put in, one for each claim."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.errors: list[Exception] = []

    async def claim(self, plan: ClaimPlan) -> ClaimResult:
        if self.errors:
            raise self.errors.pop()
        return await super().claim(plan)


@pytest.fixture
async def ledger(clock: FakeClock) -> Faulty:
    return Faulty(now=clock.now)


async def test_a_waiting_row_is_claimed_at_the_start(
    run: Run, ledger: Faulty, started: Started, state: RuntimeState
) -> None:
    """Under the id of the runtime."""
    new = new_execution()
    ledger.create_here(new)
    await run()
    assert started.ids == [new.id]
    assert started.held_by == [state.id]


async def test_an_expected_row_is_claimed_at_once(
    run: Run, ledger: Faulty, started: Started, due: ClaimsDue, clock: FakeClock
) -> None:
    """No poll is waited for."""
    await run()
    new = new_execution()
    ledger.create_here(new)
    due.expect("echo", "default")
    await clock.settle()
    assert started.ids == [new.id]


async def test_a_row_of_another_process_is_found_by_the_poll(
    run: Run, ledger: Faulty, started: Started, clock: FakeClock
) -> None:
    """Within a second."""
    await run()
    new = new_execution()
    ledger.create_here(new)
    await clock.advance(0.9)
    assert started.ids == []
    await clock.advance(0.2)
    assert started.ids == [new.id]


async def test_a_delayed_row_is_claimed_when_it_comes_due(
    run: Run, ledger: Faulty, started: Started, clock: FakeClock
) -> None:
    """Not at the next poll: at its time."""
    new = new_execution(delay=0.25)
    ledger.create_here(new)
    await run()
    await clock.advance(0.24)
    assert started.ids == []
    await clock.advance(0.02)
    assert started.ids == [new.id]


async def test_no_more_is_claimed_than_there_are_slots(
    run: Run, ledger: Faulty, started: Started, slots: Slots, due: ClaimsDue, clock: FakeClock
) -> None:
    """The next row is claimed when an attempt frees its slot."""
    rows = [new_execution() for _ in range(3)]
    for new in rows:
        ledger.create_here(new)
    await run()
    assert started.ids == [new.id for new in rows[:2]]
    slots.release("default", False)
    due.slot_freed("default")
    await clock.settle()
    assert started.ids == [new.id for new in rows]


async def test_full_slots_are_no_reason_to_keep_asking(
    run: Run, dispatcher: LocalDispatcher, ledger: Faulty, clock: FakeClock
) -> None:
    """While nothing can start the dispatcher rests, however many rows wait."""
    for _ in range(9):
        ledger.create_here(new_execution())
    await run()
    before = dispatcher.claims
    await clock.advance(10)  # raises where the loop does not come to rest
    assert dispatcher.claims - before <= 11


# --- what is left for other processes -------------------------------------------------------------


async def test_what_has_a_slot_is_not_announced(
    run: Run, ledger: Faulty, due: ClaimsDue, announced: Announced, clock: FakeClock
) -> None:
    """Two rows, two slots."""
    await run()
    for _ in range(2):
        ledger.create_here(new_execution())
        due.expect("echo", "default")
    await clock.settle()
    assert announced.times == 0


async def test_what_a_claim_leaves_is_announced(
    run: Run, ledger: Faulty, announced: Announced
) -> None:
    """It has asked for as many as fit."""
    for _ in range(3):
        ledger.create_here(new_execution())
    await run()
    assert announced.times == 1


async def test_what_comes_during_a_claim_is_announced_after_it(
    run: Run, ledger: Faulty, started: Started, due: ClaimsDue, announced: Announced,
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The slots were still free when it came; what the claim found has taken them."""
    await run()
    claiming, answer = asyncio.Event(), asyncio.Event()
    real = ledger.claim

    async def slow(plan: ClaimPlan) -> ClaimResult:
        found = await real(plan)
        claiming.set()
        await answer.wait()
        return found

    monkeypatch.setattr(ledger, "claim", slow)
    for _ in range(2):
        ledger.create_here(new_execution())
        due.expect("echo", "default")
    await claiming.wait()
    ledger.create_here(new_execution())
    due.expect("echo", "default")
    assert announced.times == 0
    answer.set()
    await clock.settle()
    assert len(started.ids) == 2
    assert announced.times == 1


async def test_of_two_queues_the_one_that_gets_no_slot_is_announced(
    run: Run, ledger: Faulty, slots: Slots, due: ClaimsDue, announced: Announced, clock: FakeClock
) -> None:
    """The claim knew of its row, and had no slot left to ask for it."""
    slots.know("reports")
    await run()
    slots.take("default", False)
    for queue in ("default", "reports"):
        ledger.create_here(new_execution(queue=queue))
        due.expect("echo", queue)
    await clock.settle()
    assert announced.times == 1


async def test_a_delayed_row_that_comes_due_in_a_full_process_is_announced(
    run: Run, ledger: Faulty, slots: Slots, due: ClaimsDue, announced: Announced, clock: FakeClock
) -> None:
    """No claim is made for it here."""
    await run()
    for _ in range(2):
        slots.take("default", False)
    ledger.create_here(new_execution(delay=0.25))
    due.due_in(0.25)
    await clock.advance(0.24)
    assert announced.times == 0
    await clock.advance(0.02)
    assert announced.times == 1


async def test_nothing_is_claimed_without_a_lease(
    run: Run, ledger: Faulty, started: Started, state: RuntimeState, due: ClaimsDue,
    clock: FakeClock,
) -> None:  # fmt: skip
    """Until one begins."""
    state.holding = False
    new = new_execution()
    ledger.create_here(new)
    await run()
    await clock.advance(3)
    assert started.ids == []
    state.holding = True
    due.look_everywhere()
    await clock.settle()
    assert started.ids == [new.id]


async def test_a_row_of_an_unknown_task_is_left_alone(
    run: Run, ledger: Faulty, started: Started, due: ClaimsDue, clock: FakeClock
) -> None:
    """Another process may know it."""
    ledger.create_here(new_execution(name="newer"))
    await run()
    due.expect("newer", "default")
    await clock.advance(2)
    assert started.claims == []


async def test_a_start_that_fails_holds_no_neighbour_up(
    run: Run, ledger: Faulty, started: Started, caplog: pytest.LogCaptureFixture
) -> None:
    """The log names it."""
    rows = [new_execution() for _ in range(2)]
    for new in rows:
        ledger.create_here(new)
    started.errors = [ValueError("no slot")]
    await run()
    assert started.ids == [rows[1].id]
    assert f"Task {rows[0].id} was claimed and did not start" in caplog.text


async def test_a_claim_that_fails_is_tried_again_after_a_pause(
    run: Run, ledger: Faulty, started: Started, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Rows that the failed claim was to find are found then; the log says so once."""
    new = new_execution()
    ledger.create_here(new)
    ledger.errors = [OperationalError("away"), OperationalError("away")]
    await run()
    await clock.advance(1.9)  # the pause is half of 4 s to all of it
    assert started.ids == []
    assert len(ledger.errors) == 1
    await clock.advance(8)
    assert started.ids == [new.id]
    assert caplog.text.count("A claim failed: away") == 1
    assert "A claim failed: over" in caplog.text


async def test_a_drain_ends_it_in_the_middle_of_a_pause(
    run: Run, dispatcher: LocalDispatcher, ledger: Faulty, state: RuntimeState, due: ClaimsDue,
    clock: FakeClock,
) -> None:  # fmt: skip
    """The end of the process waits for no database that is away."""
    ledger.errors = [OperationalError("away")]
    task = asyncio.create_task(dispatcher.run())
    await clock.settle()
    state.draining = True
    due.wake()
    await clock.settle()
    assert task.done()


@pytest.mark.parametrize("wait", ["survey", "pauses"])
async def test_nothing_is_claimed_once_a_drain_has_begun(
    run: Run, ledger: Faulty, started: Started, state: RuntimeState, due: ClaimsDue,
    pauses: Pauses, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, wait: str,
) -> None:  # fmt: skip
    """A row that the drain hands back, while the dispatcher waits for an answer, is left."""
    await run()
    asked, answer = asyncio.Event(), asyncio.Event()
    place, name = (ledger, "survey") if wait == "survey" else (pauses, "up_to_date")
    real = getattr(place, name)

    async def slow(*arguments: Any) -> Any:
        found = await real(*arguments)
        asked.set()
        await answer.wait()
        return found

    monkeypatch.setattr(place, name, slow)
    ledger.create_here(new_execution())
    due.survey_now()
    await asked.wait()
    state.draining = True
    answer.set()
    await clock.settle()
    assert started.ids == []


async def test_one_suspect_at_a_time(
    ledger: Faulty, registry: Registry, slots: Slots, state: RuntimeState, due: ClaimsDue,
    clock: FakeClock,
) -> None:  # fmt: skip
    """A claim asks for suspects only while none runs here."""
    asked: list[bool] = []

    class Asking(MemoryLedger):
        async def claim(self, plan: ClaimPlan) -> ClaimResult:
            parts = []
            for part in plan.claims():
                parts.append(part)
                plan.took(part, 0)
            asked.append(any(part.suspect for part in parts))
            assert {part.crashes for part in parts} == {3}
            return ClaimResult([], None)

    suspect = False
    dispatcher = LocalDispatcher(
        ledger=Asking(), registry=registry, slots=slots, state=state, due=due,
        start=lambda claimed, held_by: None, suspects_running=lambda: suspect,
        pauses=ReadPauses(), running_by_owner=lambda queue: {}, max_crashes=3,
    )  # fmt: skip
    task = asyncio.create_task(dispatcher.run())
    await clock.settle()
    suspect = True
    due.look_everywhere()
    await clock.settle()
    assert asked == [True, False]
    state.draining = True
    due.wake()
    await task


async def test_callers_that_wait_for_it_are_released_when_it_has_caught_up(
    run: Run, ledger: Faulty, started: Started, due: ClaimsDue, clock: FakeClock
) -> None:
    """All that finds a slot has begun by then."""
    await run()
    new = new_execution(id=new_id())
    ledger.create_here(new)
    due.expect("echo", "default")
    await due.caught_up()
    assert started.ids == [new.id]
