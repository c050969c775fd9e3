"""The lease's thread: no log handler costs the lease, and its own end is no secret."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterator
from typing import Any
from uuid import UUID

import pytest

from rail_async_tasks import safe_logging
from rail_async_tasks.ledger.records import NOTHING_KNOWN, Renewal, Vitals
from rail_async_tasks.runtime.upkeep import lease_thread
from rail_async_tasks.runtime.upkeep.lease import Lease
from rail_async_tasks.runtime.upkeep.lease_thread import LeaseThread
from tests.support.waiting import TIMEOUT


class FakeLeases:
    """Renews, but for the errors that the test wants to see first."""

    one_writer = False

    def __init__(self) -> None:
        self.begun: list[UUID] = []
        self.renewals = 0
        self.ended: list[UUID] = []
        self.failures: list[BaseException] = []
        self.renewed = threading.Condition()

    def begin(
        self,
        runtime_id: UUID,
        names: Collection[str],
        seconds: float,
        vitals: Vitals = NOTHING_KNOWN,
        program: str = "",
    ) -> None:
        self._fail()
        self.begun.append(runtime_id)

    def renew(self, runtime_id: UUID, seconds: float, vitals: Vitals) -> Renewal:
        self._fail()
        with self.renewed:
            self.renewals += 1
            self.renewed.notify_all()
        return Renewal(alive=True)

    def _fail(self) -> None:
        if self.failures:
            raise self.failures.pop(0)

    def end(self, runtime_id: UUID) -> None:
        self.ended.append(runtime_id)

    def condemn(self) -> int:
        return 0

    def dead_holders(self) -> set[UUID]:
        return set()

    def forget(self) -> None: ...

    def reset(self) -> None: ...

    def wait_for(self, renewals: int) -> None:
        with self.renewed:
            assert self.renewed.wait_for(lambda: self.renewals >= renewals, TIMEOUT)


class Holder:
    """Records its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.ended = threading.Event()

    def is_writing(self, seconds: float) -> bool:
        return True

    def leased(self, runtime_id: UUID) -> None:
        self.calls.append(("leased", runtime_id))

    def fenced(self, runtime_id: UUID) -> None:
        self.calls.append(("fenced", runtime_id))

    def lease_ended(self) -> None:
        self.calls.append(("ended",))
        self.ended.set()

    def dead_holders(self, holders: frozenset[UUID]) -> None: ...

    def broke(self, part: str, error: BaseException) -> None:
        self.calls.append(("broke", part, error))


@pytest.fixture
def leases() -> FakeLeases:
    return FakeLeases()


@pytest.fixture
def holder() -> Holder:
    return Holder()


@pytest.fixture
def keep(
    leases: FakeLeases, holder: Holder, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., LeaseThread]]:
    """Starts leases that are renewed ten times a second, and last for longer than a test does."""
    monkeypatch.setattr(lease_thread, "RENEWALS", 6000)
    kept: list[LeaseThread] = []

    def start(
        seconds: float = 600.0, lag: Callable[[], float] = lambda: 0.0, quiet: bool = False
    ) -> LeaseThread:
        def call(callback: Callable[..., object], *args: object) -> None:
            callback(*args)

        lease = LeaseThread(Lease(
            leases=leases, holder=holder, call_loop=call, lag=lag, names=frozenset, seconds=seconds,
        ), quiet=lambda: quiet)  # fmt: skip
        kept.append(lease)
        lease.start()
        return lease

    yield start
    for lease in kept:
        lease.stop()
        assert lease.join(TIMEOUT)


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(1), StopIteration()])
def test_whatever_a_renewal_raises_it_goes_on(
    leases: FakeLeases, holder: Holder, keep: Callable[..., LeaseThread], error: BaseException
) -> None:
    """A receiver of `connection_created` may raise anything; the next beat renews."""
    leases.failures = [error]
    keep()
    leases.wait_for(2)
    assert [it[0] for it in holder.calls] == ["leased"]


def test_a_quiet_process_renews_in_time_too(
    leases: FakeLeases, holder: Holder, keep: Callable[..., LeaseThread]
) -> None:
    """It sleeps from renewal to renewal; after one that failed it looks more often."""
    keep(quiet=True)
    leases.wait_for(2)
    leases.failures = [ValueError("the connection is lost")]
    leases.wait_for(leases.renewals + 2)
    assert [it[0] for it in holder.calls] == ["leased"]


def test_a_handler_that_blocks_costs_no_lease(
    leases: FakeLeases, holder: Holder, keep: Callable[..., LeaseThread]
) -> None:
    """The thread reports a renewal that failed and goes on renewing meanwhile."""
    entered, go = threading.Event(), threading.Event()

    class Blocking(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            entered.set()
            go.wait(2 * TIMEOUT)

    logger = logging.getLogger("rail_async_tasks.runtime")
    blocking = Blocking()
    logger.addHandler(blocking)
    try:
        keep()
        leases.wait_for(1)
        leases.failures = [ValueError("the connection is lost")]
        assert entered.wait(TIMEOUT)
        leases.wait_for(leases.renewals + 3)
        assert [it[0] for it in holder.calls] == ["leased"]
    finally:
        go.set()
        safe_logging.flush(TIMEOUT)
        logger.removeHandler(blocking)


def test_a_thread_that_an_error_ends_says_so(
    leases: FakeLeases,
    holder: Holder,
    keep: Callable[..., LeaseThread],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Running tasks are handed back first; the row is left to lapse, as bodies may still run."""

    def lag() -> float:
        if leases.renewals:
            raise SystemExit("worn out")
        return 0.0

    keep(lag=lag)
    assert holder.ended.wait(TIMEOUT)
    keep_id = leases.begun[0]
    assert holder.calls[:3] == [("leased", keep_id), ("fenced", keep_id), ("ended",)]
    [(_, part, error)] = holder.calls[3:]
    assert (part, str(error)) == ("rail-tasks-lease", "worn out")
    assert leases.ended == []
    safe_logging.flush(TIMEOUT)
    assert "The lease's thread has ended by an error" in caplog.text


def test_a_stop_ends_the_row(
    leases: FakeLeases, holder: Holder, keep: Callable[..., LeaseThread]
) -> None:
    """No process waits for one that has ended in order."""
    lease = keep()
    leases.wait_for(1)
    lease.stop()
    assert holder.ended.wait(TIMEOUT)
    assert leases.ended == leases.begun
    assert [it[0] for it in holder.calls] == ["leased", "ended"]
