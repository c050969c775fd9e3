"""The lease: renewed in time, given up in time, and who may take whom for dead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from django.db import OperationalError

from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.records import Vitals
from rail_async_tasks.runtime.upkeep.lease import Lease, LoopClosed
from tests.runtime.fakes import MemoryLeases
from tests.support.clock import FakeClock

SECONDS = 10.0


class Holder:
    """A runtime's side of the lease: keeps what it is notified of."""

    def __init__(self) -> None:
        self.id: UUID | None = None
        self.fenced_ids: list[UUID] = []
        self.reported: list[frozenset[UUID]] = []
        self.ended = 0
        self.faults: list[BaseException] = []
        self.writes = True

    def is_writing(self, seconds: float) -> bool:
        return self.writes

    def leased(self, runtime_id: UUID) -> None:
        self.id = runtime_id

    def fenced(self, runtime_id: UUID) -> None:
        self.fenced_ids.append(runtime_id)

    def lease_ended(self) -> None:
        self.ended += 1

    def dead_holders(self, holders: frozenset[UUID]) -> None:
        self.reported.append(holders)

    def broke(self, part: str, error: BaseException) -> None:
        self.faults.append(error)


@pytest.fixture
def clock() -> FakeClock:
    """No loop: the test is the lease's thread."""
    return FakeClock()


@pytest.fixture
def leases(clock: FakeClock) -> MemoryLeases:
    return MemoryLeases(clock)


@pytest.fixture
def holder() -> Holder:
    return Holder()


Made = Callable[..., Lease]


@pytest.fixture
def made(leases: MemoryLeases, holder: Holder, clock: FakeClock) -> Made:
    def make(**options: Any) -> Lease:
        def call(callback: Callable[..., object], *args: object) -> None:
            callback(*args)

        values: dict[str, Any] = {
            "leases": leases, "holder": holder, "call_loop": call, "lag": lambda: 0.0,
            "names": lambda: frozenset({"echo"}), "seconds": SECONDS, "clock": clock.monotonic,
        }  # fmt: skip
        return Lease(**(values | options))

    return make


def beats(lease: Lease, clock: FakeClock, seconds: float, every: float = 2.0) -> None:
    """Renews every so many seconds."""
    for _ in range(round(seconds / every)):
        clock.jump(every)
        lease.give_up_if_over()
        lease.beat()


def test_the_first_beat_begins_a_lease(made: Made, leases: MemoryLeases, holder: Holder) -> None:
    """With the names of the tasks that are known here."""
    made().beat()
    assert holder.id is not None
    assert leases.names == {holder.id: {"echo"}}


def test_the_role_is_stored_with_each_renewal(
    made: Made, leases: MemoryLeases, holder: Holder, clock: FakeClock
) -> None:
    """A process may turn out to be a worker after its start: at its first delivery."""
    roles = ["web"]
    lease = made(vitals=lambda: Vitals(role=roles[0]))
    lease.beat()
    assert list(leases.roles.values()) == ["web"]
    roles[0] = "worker"
    beats(lease, clock, 2)
    assert leases.roles == {holder.id: "worker"}


def test_a_lease_that_is_renewed_goes_on(
    made: Made, leases: MemoryLeases, holder: Holder, clock: FakeClock
) -> None:
    """Under the same id."""
    lease = made()
    lease.beat()
    beats(lease, clock, 60)
    assert list(leases.rows) == [holder.id]
    assert leases.rows[holder.id].lapses_at == clock.monotonic() + SECONDS  # type: ignore[index]
    assert holder.fenced_ids == []


def test_a_lease_that_can_not_be_renewed_is_given_up_before_it_lapses(
    made: Made, leases: MemoryLeases, holder: Holder, clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """A fifth of it before; one line says that renewals fail. The next has a new id."""
    lease = made()
    lease.beat()
    before = holder.id
    leases.errors = [OperationalError("away")] * 3
    beats(lease, clock, 6)
    assert holder.fenced_ids == []
    clock.jump(2.1)
    lease.give_up_if_over()
    assert holder.fenced_ids == [before]
    assert caplog.text.count("The lease could not be renewed: away") == 1
    assert leases.resets == 3
    lease.beat()
    assert holder.id != before


def test_a_lease_that_another_process_has_condemned_is_over(
    made: Made, leases: MemoryLeases, holder: Holder, clock: FakeClock
) -> None:
    """A dead id never comes back."""
    lease = made()
    lease.beat()
    before = holder.id
    assert before is not None
    leases.rows[before].dead = True
    lease.beat()
    assert holder.fenced_ids == [before]
    lease.beat()
    assert holder.id not in (None, before)


@pytest.mark.parametrize("stuck", ["loop", "writer"])
def test_a_process_that_is_stuck_does_not_renew(
    made: Made, leases: MemoryLeases, holder: Holder, clock: FakeClock, stuck: str
) -> None:
    """A loop that does not tick, or a writer that does not write, keeps no task."""
    lag = 0.0
    lease = made(lag=lambda: lag)
    lease.beat()
    assert holder.id is not None
    lapses_at = leases.rows[holder.id].lapses_at
    if stuck == "loop":
        lag = SECONDS
    else:
        holder.writes = False
    beats(lease, clock, 4)
    assert leases.rows[holder.id].lapses_at == lapses_at


def test_a_time_that_the_machine_slept_counts(made: Made, holder: Holder, clock: FakeClock) -> None:
    """The lease is given up before the next renewal is even tried."""
    lease = made()
    lease.beat()
    clock.jump(3600)
    lease.give_up_if_over()
    assert holder.fenced_ids == [holder.id]


def test_silent_processes_are_condemned_after_a_whole_lease(
    made: Made, leases: MemoryLeases, holder: Holder, clock: FakeClock
) -> None:
    """Not before this one has renewed for a lease itself; their executions are reported."""
    silent = new_id()
    leases.begin(silent, [], 1.0)
    leases.holders = {silent}
    lease = made()
    lease.beat()
    beats(lease, clock, 10)
    assert not leases.rows[silent].dead
    assert holder.reported == []
    beats(lease, clock, 2)
    assert leases.rows[silent].dead
    assert holder.reported == [frozenset({silent})]


def test_after_an_outage_no_process_is_condemned_for_a_lease(
    made: Made, leases: MemoryLeases, holder: Holder, clock: FakeClock
) -> None:
    """No process was able to renew."""
    lease = made()
    lease.beat()
    beats(lease, clock, 12)
    other = new_id()
    leases.begin(other, [], SECONDS)
    leases.errors = [OperationalError("away")] * 10
    beats(lease, clock, 20)
    beats(lease, clock, 4)
    assert not leases.rows[other].dead


def test_a_ledger_clock_that_was_set_ahead_condemns_no_process(
    made: Made, leases: MemoryLeases, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """By it every lease has lapsed at once. A process that stays silent is condemned later."""
    lease = made()
    lease.beat()
    other = new_id()
    beats(lease, clock, 12)
    leases.begin(other, [], SECONDS)
    leases.ahead = 3600.0
    beats(lease, clock, 8)
    assert not leases.rows[other].dead
    assert "The clock of the database was set ahead" in caplog.text
    beats(lease, clock, 6)
    assert leases.rows[other].dead


def test_rows_of_the_long_dead_are_deleted_once_an_hour(
    made: Made, leases: MemoryLeases, clock: FakeClock
) -> None:
    """By a process that may judge."""
    lease = made()
    lease.beat()
    beats(lease, clock, 20)
    assert leases.forgotten == 1
    beats(lease, clock, 3600)
    assert leases.forgotten == 2


def test_an_end_marks_the_row(made: Made, leases: MemoryLeases, holder: Holder) -> None:
    """No other process waits for it to lapse."""
    lease = made()
    lease.beat()
    lease.end()
    assert holder.id is not None
    assert leases.rows[holder.id].dead
    assert holder.ended == 1
    assert holder.faults == []


def test_an_end_by_an_error_leaves_the_row_to_lapse(
    made: Made, leases: MemoryLeases, holder: Holder
) -> None:
    """Bodies may still run; they are handed back first."""
    lease = made()
    lease.beat()
    error = ValueError("worn out")
    lease.end(error)
    assert holder.id is not None
    assert not leases.rows[holder.id].dead
    assert holder.fenced_ids == [holder.id]
    assert holder.faults == [error]


def test_a_closed_loop_ends_the_lease(made: Made) -> None:
    """There is no runtime any more."""

    def closed(*args: object) -> None:
        raise RuntimeError("Event loop is closed")

    with pytest.raises(LoopClosed):
        made(call_loop=closed).beat()


def test_a_file_that_is_locked_is_no_missed_beat(
    made: Made, leases: MemoryLeases, holder: Holder, clock: FakeClock
) -> None:
    """On SQLite no other process could write meanwhile either, nor take this one for dead."""
    leases.one_writer = True
    lease = made()
    lease.beat()
    leases.errors = [OperationalError("database is locked")] * 10
    beats(lease, clock, 20)
    assert holder.fenced_ids == []
