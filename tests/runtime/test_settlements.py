"""Outcomes of attempts: stored, stored again, refused, and locked at the end."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import DataError, OperationalError

from rail_async_tasks.ledger.records import Outcome, RowLocked
from rail_async_tasks.runtime.attempts.attempt import Attempt
from rail_async_tasks.runtime.attempts.options import policy_for
from rail_async_tasks.runtime.attempts.settlements import Settlements
from rail_async_tasks.runtime.attempts.threads import DaemonThreads
from rail_async_tasks.states import ErrorCode, Status
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


@pytest.fixture
async def settlements(core: Core) -> Settlements:
    return core.settlements()


def running(core: Core, **fields: Any) -> Attempt:
    """An attempt that runs here."""
    claimed, definition = core.claimed(**fields), core.registry.get("body")
    assert definition is not None
    attempt = Attempt(
        claimed, definition, policy_for(claimed.snapshot, definition, core.settings, None),
        loop=core.loop, threads=DaemonThreads("test"), progress_interval=0.1, grace=1.0,
        on_progress=lambda attempt: None, on_end=lambda attempt, outcome: None, state=core.state,
    )  # fmt: skip
    core.running.add(attempt)
    return attempt


def ends(attempt: Attempt, status: Status = Status.COMPLETED, **fields: Any) -> Outcome:
    return Outcome(id=attempt.snapshot.id, token=attempt.token, status=status, progress=0, **fields)


async def test_a_stored_outcome_is_announced_and_the_attempt_forgotten(
    core: Core, ledger: SlowLedger, settlements: Settlements
) -> None:
    """Until then it counts as running, and its outcome as outstanding."""
    attempt = running(core)
    settlements.settle(attempt, ends(attempt))
    assert (len(core.running.by_id), core.outstanding.outcomes) == (1, 1)
    ledger.answer()
    assert (len(core.running.by_id), core.outstanding.outcomes) == (0, 0)
    assert core.recorder.events == [("ended", "completed")]
    assert core.stored == [(attempt.snapshot.id, attempt.token)]
    assert core.status(attempt.snapshot.id) == "completed"


@pytest.mark.parametrize("delay", [None, 5.0])
async def test_a_retry_is_due_at_once_or_in_its_time(
    clock: FakeClock, core: Core, ledger: SlowLedger, settlements: Settlements, delay: float | None
) -> None:
    """The dispatcher is woken then."""
    attempt = running(core)
    settlements.settle(attempt, ends(attempt, Status.RETRYING, retried=1, delay=delay))
    ledger.answer()
    assert core.due.any_due is (delay is None)
    if delay is not None:
        await core.wakes_in(clock, delay)


async def test_a_retry_in_a_drain_is_left_to_other_processes(
    core: Core, ledger: SlowLedger, settlements: Settlements
) -> None:
    """Nothing is claimed here any more."""
    attempt = running(core)
    core.state.draining = True
    settlements.settle(attempt, ends(attempt, Status.RETRYING))
    ledger.answer()
    assert not core.due.any_due


async def test_an_outcome_is_offered_again_while_the_database_fails(
    clock: FakeClock, core: Core, ledger: SlowLedger, settlements: Settlements
) -> None:
    """Nothing is wrong with it. The end of the process would wait for it."""
    attempt = running(core)
    settlements.settle(attempt, ends(attempt))
    for _ in range(3):
        ledger.answer(OperationalError("away"))
        assert (ledger.outcomes, core.outstanding.outcomes) == ([], 1)
        await clock.advance(1.0)
        assert (len(ledger.outcomes), core.outstanding.outcomes) == (1, 1)
    ledger.answer()
    assert core.status(attempt.snapshot.id) == "completed"


async def test_an_outcome_that_can_t_be_stored_fails_its_task(
    core: Core, ledger: SlowLedger, settlements: Settlements
) -> None:
    """The body has run: it is not run again."""
    attempt = running(core)
    settlements.settle(attempt, ends(attempt, result="1"))
    ledger.answer(DataError("too long"))
    ledger.answer()
    row = core.ledger.get(attempt.snapshot.id)
    assert row is not None
    assert (row.status, row.error_code) == ("failed", ErrorCode.RESULT_NOT_SERIALIZABLE)
    assert len(core.failures) == 1


async def test_a_task_of_which_nothing_can_be_stored_is_dropped(
    core: Core, ledger: SlowLedger, settlements: Settlements, caplog: pytest.LogCaptureFixture
) -> None:
    """It is tried twice, and no oftener."""
    attempt = running(core)
    settlements.settle(attempt, ends(attempt))
    ledger.answer(DataError("no"))
    ledger.answer(DataError("no"))
    assert ledger.outcomes == []
    assert core.recorder.events == [("dropped", "running")]
    assert (len(core.running.by_id), core.outstanding.outcomes) == (0, 0)
    assert "Nothing can be stored of task" in caplog.text


async def test_an_outcome_of_an_attempt_that_is_held_elsewhere_is_dropped(
    core: Core, ledger: SlowLedger, settlements: Settlements
) -> None:
    """Its token is not the row's."""
    attempt = running(core)
    other = running(core)
    attempt.token = other.token
    settlements.settle(attempt, ends(attempt))
    ledger.answer()
    assert core.recorder.events == [("dropped", "running")]
    assert core.status(attempt.snapshot.id) == "running"


async def test_a_lock_is_waited_for_until_it_is_abandoned(
    clock: FakeClock, core: Core, ledger: SlowLedger, settlements: Settlements,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """At the end of the process the row is left to be recovered, which the log says."""
    attempt = running(core)
    settlements.settle(attempt, ends(attempt))
    ledger.answer(RowLocked())
    await clock.advance(1.0)
    assert len(ledger.outcomes) == 1
    settlements.abandon_locked()
    ledger.answer(RowLocked())
    await clock.advance(10.0)
    assert (ledger.outcomes, core.outstanding.outcomes) == ([], 0)
    assert core.recorder.events == [("dropped", "running")]
    assert "another transaction has locked its row" in caplog.text


async def test_outcomes_of_a_runtime_that_was_cut_off_are_dropped(
    core: Core, ledger: SlowLedger, settlements: Settlements
) -> None:
    """Other processes recover what ran here: it counts as a crash."""
    attempt = running(core)
    core.state.abandoned = True
    settlements.settle(attempt, ends(attempt))
    assert (ledger.outcomes, core.outstanding.outcomes) == ([], 0)


async def test_the_outcome_of_an_unknown_attempt_is_outstanding_until_its_answer(
    core: Core, ledger: SlowLedger, settlements: Settlements
) -> None:
    """The end of the process waits for it as for any other."""
    attempt, answers = running(core), []
    settlements.settle_unknown(ends(attempt, Status.RETRYING), answers.append)
    assert core.outstanding.outcomes == 1
    ledger.answer()
    assert core.outstanding.outcomes == 0
    assert [it.status for it in answers] == ["retrying"]
