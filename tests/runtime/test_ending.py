"""The end of a runtime: running bodies handed back, accepted writes flushed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from django.db import OperationalError

from rail_async_tasks.errors import BackendUnavailable
from rail_async_tasks.ledger.records import RowLocked
from rail_async_tasks.runtime.attempts.attempts import Attempts
from rail_async_tasks.runtime.attempts.settlements import Settlements
from rail_async_tasks.runtime.creations import Creations
from rail_async_tasks.runtime.ending import Ending
from tests.runtime.core import Core, SlowLedger
from tests.support.clock import FakeClock


class End:
    """The services that an ending ends."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.settlements: Settlements = core.settlements()
        self.attempts: Attempts = core.attempts(self.settlements)
        self.creations: Creations = core.creations()
        self.ending = Ending(
            state=core.state, running=core.running, attempts=self.attempts,
            creations=self.creations, settlements=self.settlements, outstanding=core.outstanding,
            drain_seconds=20.0, cancel_grace=10.0,
        )  # fmt: skip

    def start(self, name: str) -> Any:
        claimed = self.core.claimed(name)
        self.attempts.start(claimed, self.core.state.id)
        return claimed.snapshot.id


@pytest.fixture
async def core(clock: FakeClock) -> Core:
    core = Core(clock)
    core.empty_queues()
    return core


@pytest.fixture
async def end(core: Core) -> AsyncIterator[End]:
    end = End(core)
    yield end
    await end.attempts.close(5)


async def lasting(seconds: float) -> None:
    await asyncio.sleep(seconds)


async def test_a_body_that_ends_in_the_drain_s_time_completes(
    clock: FakeClock, core: Core, end: End
) -> None:
    """The hand-back returns with it."""

    async def body() -> None:
        await lasting(19)

    core.task(body)
    execution_id = end.start("body")
    core.state.draining = True
    ends = asyncio.ensure_future(end.ending.hand_back())
    await clock.advance(18)
    assert not ends.done()
    await clock.advance(1.1)
    assert ends.done()
    assert core.status(execution_id) == "completed"


async def test_a_body_that_takes_longer_is_handed_back(
    clock: FakeClock, core: Core, end: End
) -> None:
    """It is cancelled after `drain_seconds`, and runs again elsewhere."""

    async def body() -> None:
        await lasting(1000)

    core.task(body)
    execution_id = end.start("body")
    core.state.draining = True
    ends = asyncio.ensure_future(end.ending.hand_back())
    await clock.advance(19.9)
    assert core.status(execution_id) == "running"
    await clock.advance(0.2)
    assert ends.done()
    assert core.status(execution_id) == "retrying"


async def test_a_body_that_ignores_its_cancel_is_given_up_in_a_second(
    clock: FakeClock, core: Core, end: End
) -> None:
    """Not after the whole grace time: the process must end."""
    gate = asyncio.Event()

    async def body() -> None:
        while not gate.is_set():
            try:
                await gate.wait()
            except asyncio.CancelledError:
                continue

    core.task(body)
    execution_id = end.start("body")
    core.state.draining = True
    ends = asyncio.ensure_future(end.ending.hand_back())
    await clock.advance(20.9)
    assert not ends.done()
    await clock.advance(0.2)
    assert ends.done()
    assert core.status(execution_id) == "retrying"
    gate.set()
    await clock.settle()


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_hurry_hands_back_at_once(
    clock: FakeClock, core: Core, end: End, when: str
) -> None:
    """Whether the drain has begun or not."""

    async def body() -> None:
        await lasting(1000)

    core.task(body)
    execution_id = end.start("body")
    await clock.settle()
    if when == "before":
        end.ending.hurry()
        await clock.settle()
        assert core.status(execution_id) == "running"
    core.state.draining = True
    ends = asyncio.ensure_future(end.ending.hand_back())
    await clock.settle()
    if when == "after":
        assert not ends.done()
        end.ending.hurry()
        await clock.settle()
    assert ends.done()
    assert core.status(execution_id) == "retrying"


# --- flush ----------------------------------------------------------------------------------------


@pytest.fixture
async def ledger(clock: FakeClock) -> SlowLedger:
    return SlowLedger(clock.now)


async def body() -> None:
    """A task that does nothing."""


@pytest.fixture
async def slow(clock: FakeClock, ledger: SlowLedger) -> AsyncIterator[End]:
    """On a ledger that answers when the test says so."""
    core = Core(clock, ledger)
    core.task(body)
    core.empty_queues()
    end = End(core)
    yield end
    await end.attempts.close(5)


async def test_a_flush_waits_for_every_answer(
    clock: FakeClock, slow: End, ledger: SlowLedger
) -> None:
    """Of outcomes and of creations, for as long as the database takes."""
    execution_id = slow.start("body")
    creation = asyncio.ensure_future(slow.creations.create(slow.core.new(unique_key="k")))
    await clock.settle()
    flush = asyncio.ensure_future(slow.ending.flush())
    await clock.advance(20)
    assert not flush.done()
    ledger.answer()
    await clock.settle()
    assert not flush.done()
    ledger.answer_creation()
    await clock.settle()
    assert flush.done()
    await creation
    assert slow.core.status(execution_id) == "completed"


async def test_callers_are_answered_in_a_flush(
    clock: FakeClock, slow: End, ledger: SlowLedger
) -> None:
    """The service that does so otherwise has stopped."""
    creation = asyncio.ensure_future(slow.creations.create(slow.core.new()))
    await clock.settle()
    flush = asyncio.ensure_future(slow.ending.flush())
    await clock.advance(32)
    assert isinstance(creation.exception(), BackendUnavailable)
    flush.cancel()


async def test_a_flush_abandons_a_locked_outcome_after_a_second(
    clock: FakeClock, slow: End, ledger: SlowLedger
) -> None:
    """Its row is recovered by another process."""
    slow.start("body")
    await clock.settle()
    flush = asyncio.ensure_future(slow.ending.flush())
    ledger.answer(RowLocked())
    await clock.advance(1.1)
    assert not flush.done()
    ledger.answer(RowLocked())
    await clock.advance(1)
    ledger.answer(RowLocked())
    await clock.settle()
    assert flush.done()
    assert slow.core.recorder.events[-1] == ("dropped", "running")


async def test_a_flush_after_a_fault_ends_in_time(
    clock: FakeClock, slow: End, ledger: SlowLedger, caplog: pytest.LogCaptureFixture
) -> None:
    """A writer may be gone: what it has not stored is abandoned, and recovered by others."""
    slow.start("body")
    await clock.settle()
    slow.core.state.fail(ValueError("a writer has ended"))
    flush = asyncio.ensure_future(slow.ending.flush())
    ledger.answer(OperationalError("gone"))
    await clock.advance(4)
    assert (flush.done(), slow.core.state.abandoned) == (False, False)
    await clock.advance(3)
    assert (flush.done(), slow.core.state.abandoned) == (True, True)
    assert "1 outcome could not be stored" in caplog.text
