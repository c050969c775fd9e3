"""The reconciler and its steps: each finds what no message announces, in its time."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import OperationalError

from rail_async_tasks.bus.memory import MemoryBus
from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.memory.ledger import MemoryLedger
from rail_async_tasks.ledger.records import Held
from rail_async_tasks.runtime.state import RuntimeState
from rail_async_tasks.runtime.upkeep.cancels import CancelReader
from rail_async_tasks.runtime.upkeep.corrections import QueueReader, TimeCorrector
from rail_async_tasks.runtime.upkeep.reconciler import Reconciler
from rail_async_tasks.runtime.upkeep.steps import Step
from rail_async_tasks.runtime.upkeep.unknown import UnknownNames, UnknownRows
from rail_async_tasks.runtime.upkeep.watched import WatchedReader
from rail_async_tasks.snapshot import owner_topic, task_topic
from tests.runtime.fakes import MemoryRecoveries
from tests.support.clock import FakeClock
from tests.support.ledgers import new_execution


class Action:
    """Counts its calls; fails, or waits, while a test wants it to."""

    def __init__(self) -> None:
        self.calls = 0
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self) -> None:
        self.calls += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error


# --- rounds ---------------------------------------------------------------------------------------


async def test_each_step_has_its_rounds(clock: FakeClock) -> None:
    """The first round has all of them."""
    often, seldom = Action(), Action()
    reconciler = Reconciler(
        steps=[Step("often", often), Step("seldom", seldom, every=3)], interval=1.0
    )
    task = asyncio.create_task(reconciler.run())
    await clock.advance(6.5)
    assert (often.calls, seldom.calls) == (7, 3)
    reconciler.stop()
    await task


async def test_a_quiet_process_wakes_up_half_as_often(clock: FakeClock) -> None:
    """It takes some steps more seldom, some not at all. Work has the next round come at once."""
    often, seldom, unwanted, quiet, calls = Action(), Action(), Action(), True, []
    reconciler = Reconciler(
        steps=[
            Step("often", often), Step("seldom", seldom, every=1, quiet_every=6),
            Step("unwanted", unwanted, wanted=lambda: not quiet),
        ],
        every_round=[lambda: calls.append(clock.monotonic())], interval=1.0, quiet=lambda: quiet,
    )  # fmt: skip
    task = asyncio.create_task(reconciler.run())
    await clock.advance(12.5)
    assert len(calls) == often.calls == 7
    assert (seldom.calls, unwanted.calls) == (3, 0)
    quiet = False
    reconciler.wake()
    await clock.settle()
    assert (often.calls, seldom.calls, unwanted.calls) == (8, 4, 1)
    await clock.advance(3.5)
    assert (often.calls, seldom.calls, unwanted.calls) == (11, 7, 4)
    reconciler.stop()
    await task


async def test_a_step_that_fails_keeps_no_other_from_its_turn(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged once, with its recovery."""
    fails, other = Action(), Action()
    fails.error = OperationalError("away")
    reconciler = Reconciler(steps=[Step("rows", fails), Step("others", other)], interval=1.0)
    task = asyncio.create_task(reconciler.run())
    await clock.advance(3.5)
    assert other.calls == fails.calls == 4
    assert caplog.text.count("Reading rows from the database failed: away") == 1
    fails.error = None
    await clock.advance(1)
    assert "Reading rows from the database failed: over" in caplog.text
    reconciler.stop()
    await task


async def test_an_unexpected_error_of_a_step_has_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is ours to mend, not the database's."""
    fails = Action()
    fails.error = ValueError("odd")
    await Step("rows", fails).take()
    (record,) = [it for it in caplog.records if it.levelname == "ERROR"]
    assert record.exc_info


async def test_the_calls_of_each_round_wait_for_no_step(clock: FakeClock) -> None:
    """A database that is away must not keep callers waiting, nor a lease from its end."""
    hangs, calls = Action(), []
    hangs.gate.clear()
    reconciler = Reconciler(
        steps=[Step("rows", hangs)], every_round=[lambda: calls.append(1)], interval=1.0
    )
    task = asyncio.create_task(reconciler.run())
    await clock.advance(3.5)
    assert len(calls) == 4
    assert hangs.calls == 1
    reconciler.stop()
    await task


async def test_a_call_that_raises_keeps_no_other_from_its_turn(clock: FakeClock) -> None:
    """Supervision logs the error."""
    calls = []

    def fail() -> None:
        raise ValueError("odd")

    for every_round in ([fail, lambda: calls.append(1)], [lambda: calls.append(1), fail]):
        with pytest.raises(ValueError, match="odd"):
            await Reconciler(steps=[], every_round=every_round).run()
    assert len(calls) == 2


# --- cancels --------------------------------------------------------------------------------------


class Cancelling:
    """A cancel reader, what runs here, and what it has cancelled."""

    def __init__(self, state: RuntimeState) -> None:
        self.recoveries = MemoryRecoveries()
        self.running: set[UUID] = set()
        self.cancelled: list[UUID] = []
        self.reader = CancelReader(
            recoveries=self.recoveries, state=state, running=self.running,
            cancel=self.cancelled.append, pause=0.1,
        )  # fmt: skip


async def test_a_cancel_of_another_process_is_read_by_the_step(state: RuntimeState) -> None:
    """Of this runtime's rows; without attempts here nothing is read."""
    it = Cancelling(state)
    await it.reader.step.take()
    assert it.recoveries.reads == 0
    asked = new_id()
    it.running.add(asked)
    it.recoveries.cancels[state.id] = [asked]
    await it.reader.step.take()
    assert it.cancelled == [asked]


async def test_an_announced_cancel_is_read_at_once(state: RuntimeState, clock: FakeClock) -> None:
    """Many announcements cost one read in a tenth of a second; one of a stranger costs none."""
    it = Cancelling(state)
    asked = new_id()
    it.running.add(asked)
    it.recoveries.cancels[state.id] = [asked]
    task = asyncio.create_task(it.reader.run())
    it.reader.announced(new_id())
    await clock.settle()
    assert it.recoveries.reads == 0
    for _ in range(20):
        it.reader.announced(asked)
        await clock.settle()
    assert it.cancelled == [asked]
    await clock.advance(0.11)
    assert it.recoveries.reads == 2
    it.reader.stop()
    await clock.settle()
    assert task.done()


# --- watched rows ---------------------------------------------------------------------------------


async def test_watchers_get_what_was_not_announced(ledger: MemoryLedger, clock: FakeClock) -> None:
    """One read for all of them; the watch of a row that is gone ends."""
    bus = MemoryBus()
    watched = WatchedReader(reads=ledger, bus=bus, running=(), emits=True, clock=clock.monotonic)
    new, gone = new_execution(), new_id()
    ledger.create_here(new)
    async with bus.subscribe(task_topic(new.id)) as mailbox, bus.subscribe(task_topic(gone)) as end:
        ledger.cancel(new.id, None)
        await watched.read_tasks()
        assert (await anext(mailbox)).status == "cancelled"
        assert [it async for it in end] == []


@pytest.mark.parametrize(("emits", "count"), [(True, 0), (False, 1)])
async def test_what_runs_here_is_newer_than_its_row(
    ledger: MemoryLedger, clock: FakeClock, emits: bool, count: int
) -> None:
    """Unless changes are not published at all."""
    bus = MemoryBus()
    new = new_execution()
    ledger.create_here(new)
    watched = WatchedReader(
        reads=ledger, bus=bus, running={new.id}, emits=emits, clock=clock.monotonic
    )
    async with bus.subscribe(task_topic(new.id)) as mailbox:
        await watched.read_tasks()
        assert len(mailbox) == count


async def test_owners_get_what_changed_since_the_last_read(
    ledger: MemoryLedger, clock: FakeClock
) -> None:
    """With an overlap, for changes that commit late; never what is older."""
    bus = MemoryBus()
    watched = WatchedReader(
        reads=ledger, bus=bus, running=(), emits=True, clock=clock.monotonic, overlap=5.0
    )
    old, recent, mine = (new_execution(owner_id="7") for _ in range(3))
    ledger.create_here(old)
    clock.jump(98)
    ledger.create_here(recent)
    clock.jump(2)
    await watched.read_owners()  # there are no watchers yet
    async with bus.subscribe(owner_topic("7", None)) as mailbox:
        clock.jump(3)
        ledger.create_here(mine)
        ledger.create_here(new_execution(owner_id="8"))
        await watched.read_owners()
        assert len(mailbox) == 2
        assert [(await anext(mailbox)).id for _ in range(2)] == [recent.id, mine.id]


# --- unknown rows and names -----------------------------------------------------------------------


async def test_an_unknown_row_is_disowned_at_the_second_read(state: RuntimeState) -> None:
    """The first may come between a commit and its answer; a row that runs here is known."""
    recoveries, disowned = MemoryRecoveries(), list[Held]()
    known, unknown = (Held(new_id(), new_id(), False, True) for _ in range(2))
    recoveries.held[state.id] = [known, unknown]
    rows = UnknownRows(
        recoveries=recoveries, state=state, running={known.id}, disown=disowned.append
    )
    await rows.read()
    assert disowned == []
    await rows.read()
    assert disowned == [unknown]
    await rows.read()
    assert disowned == [unknown]  # its answer may be on the way


async def test_without_a_lease_no_row_is_disowned(state: RuntimeState) -> None:
    """Its rows are others' to recover."""
    recoveries, disowned = MemoryRecoveries(), list[Held]()
    recoveries.held[state.id] = [Held(new_id(), new_id(), False, True)]
    state.holding = False
    rows = UnknownRows(recoveries=recoveries, state=state, running=(), disown=disowned.append)
    for _ in range(3):
        await rows.read()
    assert disowned == []


async def _learn_nothing(names: Collection[str]) -> bool:
    return False


async def test_a_name_that_can_be_learnt_does_not_fail(clock: FakeClock) -> None:
    """Its module is imported at the first look; the others' time goes on."""
    recoveries, failed, known = MemoryRecoveries(), list[str](), {"echo"}

    async def fail(name: str) -> None:
        failed.append(name)

    async def learn(names: Collection[str]) -> bool:
        known.update({"late"}.intersection(names))
        return True

    row: Any = object()
    recoveries.unknown = {"gone": [row], "late": [row]}
    names = UnknownNames(
        recoveries=recoveries, known=lambda: known, learn=learn, fail=fail, seconds=60.0,
        clock=clock.monotonic,
    )  # fmt: skip
    await names.read()
    clock.jump(61)
    await names.read()
    assert failed == ["gone"]


async def test_a_name_fails_that_was_unknown_for_long(
    ledger: MemoryLedger, clock: FakeClock
) -> None:
    """A deploy may bring it meanwhile: then its time begins anew."""
    recoveries, failed = MemoryRecoveries(), list[str]()

    async def fail(name: str) -> None:
        failed.append(name)

    row: Any = ledger.get(new_execution().id)
    recoveries.unknown = {"gone": [row], "comes": [row], "echo": [row]}
    names = UnknownNames(
        recoveries=recoveries, known=lambda: {"echo"}, learn=_learn_nothing, fail=fail,
        seconds=60.0, clock=clock.monotonic,
    )  # fmt: skip
    await names.read()
    clock.jump(30)
    recoveries.unknown["comes"] = []
    await names.read()
    recoveries.unknown["comes"] = [row]
    clock.jump(29)
    await names.read()
    assert failed == []
    clock.jump(1)
    await names.read()
    assert failed == ["gone"]


# --- queues and times -----------------------------------------------------------------------------


async def test_queues_of_waiting_rows_become_known(ledger: MemoryLedger) -> None:
    """Another process may have enqueued in one that no setting names here."""
    known: list[str] = []
    ledger.create_here(new_execution(queue="elsewhere"))
    await QueueReader(reads=ledger, know=known.append).read()
    assert known == ["elsewhere"]


async def test_times_from_the_future_are_corrected(
    ledger: MemoryLedger, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The log names the cause, once."""
    ledger.create_here(new_execution(run_after=clock.now() + timedelta(days=4000)))
    times = TimeCorrector(ledger_clock=ledger, ttl=None, hold=60.0)
    await times.correct()
    assert caplog.text == ""
    clock.jump(-3 * 86400)  # the clock was ahead, and has come back
    await times.correct()
    await times.correct()
    assert caplog.text.count("1 row had times from the future") == 1
