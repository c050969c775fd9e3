"""Recovery: executions of dead processes are freed, strangers handed back, unknown tasks failed."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
import pytest
from django.db import OperationalError

from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.memory.ledger import MemoryLedger
from rail_async_tasks.ledger.records import Held
from rail_async_tasks.registry import Registry
from rail_async_tasks.runtime.announce import Announcer
from rail_async_tasks.runtime.claims.local_dispatcher import ClaimsDue
from rail_async_tasks.runtime.claims.slots import Slots
from rail_async_tasks.runtime.failure_log import FailureLog
from rail_async_tasks.runtime.observers import Observers
from rail_async_tasks.runtime.state import RuntimeState
from rail_async_tasks.runtime.upkeep.recovery import Recoverer
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.states import Status
from tests.runtime.fakes import MemoryRecoveries, Outcomes, ReadPauses
from tests.support.clock import FakeClock
from tests.support.ledgers import new_execution


class Published:
    """A bus that keeps what is published."""

    def __init__(self) -> None:
        self.snapshots: list[TaskSnapshot] = []

    def publish(self, snapshot: TaskSnapshot) -> None:
        self.snapshots.append(snapshot)


@pytest.fixture
def published() -> Published:
    return Published()


@pytest.fixture
def recoveries() -> MemoryRecoveries:
    return MemoryRecoveries()


@pytest.fixture
def outcomes() -> Outcomes:
    return Outcomes()


@pytest.fixture
def failed() -> list[UUID]:
    """The executions whose failure callback was asked for."""
    return []


@pytest.fixture
async def due(slots: Slots, registry: Registry, state: RuntimeState, clock: FakeClock) -> ClaimsDue:
    plan = slots.plan(new_id(), (), ())
    assert list(plan.claims()) == []  # a look that has found nothing
    slots.learn(plan)
    return ClaimsDue(slots=slots, registry=registry, state=state, pauses=ReadPauses())


@pytest.fixture
async def recoverer(
    recoveries: MemoryRecoveries, state: RuntimeState, due: ClaimsDue, published: Published,
    outcomes: Outcomes, failed: list[UUID],
) -> Recoverer:  # fmt: skip
    announcer = Announcer(
        bus=published, observers=Observers(()), log=FailureLog(),
        on_failure=lambda snapshot, traceback: failed.append(snapshot.id),
    )  # fmt: skip
    return Recoverer(
        recoveries=recoveries, state=state, due=due, announcer=announcer, settle=outcomes.settle,
        max_crashes=3, ttl=60.0, callback_hold=30.0, page=2,
    )  # fmt: skip


def snapshot(ledger: MemoryLedger, status: Status, **fields: Any) -> TaskSnapshot:
    """A row as it stands after its recovery."""
    new = new_execution(**fields)
    ledger.create_here(new)
    row = ledger.get(new.id)
    assert row is not None
    return msgspec.structs.replace(row, status=status, run_after=None)


async def test_executions_of_a_dead_process_are_freed_page_by_page(
    recoverer: Recoverer, recoveries: MemoryRecoveries, ledger: MemoryLedger,
    published: Published, due: ClaimsDue, clock: FakeClock,
) -> None:  # fmt: skip
    """They are published and due again; the count is for operators."""
    holder = new_id()
    rows = [snapshot(ledger, Status.RETRYING) for _ in range(5)]
    recoveries.running[holder] = rows
    assert not due.any_due
    recoverer.recover(frozenset({holder}))
    await clock.settle()
    assert published.snapshots == rows
    assert due.any_due
    assert recoverer.recovered == 5
    assert {(it.holder, it.max_crashes, it.ttl, it.callback_hold) for it in recoveries.freed} == {
        (holder, 3, 60.0, 30.0)
    }


async def test_one_that_was_lost_too_often_is_announced_as_failed(
    recoverer: Recoverer, recoveries: MemoryRecoveries, ledger: MemoryLedger,
    failed: list[UUID], due: ClaimsDue, clock: FakeClock,
) -> None:  # fmt: skip
    """With its failure callback; it is not due."""
    holder, row = new_id(), snapshot(ledger, Status.FAILED)
    recoveries.running[holder] = [row]
    recoverer.recover(frozenset({holder}))
    await clock.settle()
    assert failed == [row.id]
    assert not due.any_due


async def test_a_holder_is_freed_once_at_a_time(
    recoverer: Recoverer, recoveries: MemoryRecoveries, clock: FakeClock
) -> None:
    """However often the lease reports it; and never this process itself."""
    holder = new_id()
    for _ in range(3):
        recoverer.recover(frozenset({holder}))
    await clock.settle()
    assert [it.holder for it in recoveries.freed] == [holder]


@pytest.mark.parametrize("reason", ["own id", "draining"])
async def test_what_is_not_freed(
    recoverer: Recoverer, recoveries: MemoryRecoveries, state: RuntimeState, clock: FakeClock,
    reason: str,
) -> None:  # fmt: skip
    """This process's own executions; and none while it drains."""
    state.draining = reason == "draining"
    recoverer.recover(frozenset({state.id if reason == "own id" else new_id()}))
    await clock.settle()
    assert recoveries.freed == []


async def test_a_recovery_that_fails_is_begun_again_by_the_next_report(
    recoverer: Recoverer, recoveries: MemoryRecoveries, ledger: MemoryLedger,
    clock: FakeClock, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """The log says that it could not be done yet."""
    holder = new_id()
    recoveries.running[holder] = [snapshot(ledger, Status.RETRYING)]
    recoveries.error = OperationalError("away")
    recoverer.recover(frozenset({holder}))
    await clock.settle()
    assert "could not be recovered yet: away" in caplog.text
    recoveries.error = None
    recoverer.recover(frozenset({holder}))
    await clock.settle()
    assert recoverer.recovered == 1


@pytest.mark.parametrize(("rerun", "status"), [(True, "retrying"), (False, "failed")])
async def test_an_unknown_row_is_handed_back(
    recoverer: Recoverer, outcomes: Outcomes, due: ClaimsDue, rerun: bool, status: str
) -> None:
    """By its token, at no cost of a retry; then all queues are looked at."""
    held = Held(new_id(), new_id(), False, rerun)
    recoverer.disown(held)
    (outcome,) = outcomes.seen
    assert (outcome.id, outcome.token, outcome.status) == (held.id, held.token, status)
    assert outcome.retried == 0
    assert due.any_due


async def test_executions_of_an_unknown_task_fail(
    recoverer: Recoverer, recoveries: MemoryRecoveries, ledger: MemoryLedger,
    published: Published, failed: list[UUID],
) -> None:  # fmt: skip
    """All of them, page by page, and each is announced."""
    rows = [snapshot(ledger, Status.FAILED, name="gone") for _ in range(3)]
    recoveries.unknown["gone"] = list(rows)
    await recoverer.fail_unknown("gone")
    assert published.snapshots == rows
    assert failed == [row.id for row in rows]


async def test_a_stop_leaves_the_rest_to_others(
    recoverer: Recoverer, recoveries: MemoryRecoveries, ledger: MemoryLedger, clock: FakeClock
) -> None:
    """The end of the process waits for no recovery."""
    holder = new_id()
    recoveries.running[holder] = [snapshot(ledger, Status.RETRYING)]
    recoverer.recover(frozenset({holder}))
    recoverer.stop()
    await clock.settle()
    assert recoverer.recovered == 0
