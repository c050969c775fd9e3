"""Tasks that no process runs: orphans, rows unknown to their holder, unknown names."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import AsyncExitStack
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import InterfaceError, OperationalError, connection

from rail_async_tasks import Task, safe_logging, service, task
from rail_async_tasks.access import SYSTEM
from rail_async_tasks.hosting import process as host
from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.orm.leases import OrmLeases
from rail_async_tasks.ledger.orm.ledger import OrmLedger
from rail_async_tasks.ledger.records import Outcome, Recovery, Vitals
from rail_async_tasks.models import TaskExecution, TaskRuntime
from rail_async_tasks.states import Status
from tests.support.runtimes import Configure, on_databases, other_process
from tests.support.timings import Timings
from tests.support.waiting import TIMEOUT, eventually, final

pytestmark = [on_databases, pytest.mark.usefixtures("ends_cleanly")]

LEASE = 2.0


def declared(**options: Any) -> Task:
    @task(name="recovery.noop", **options)
    async def noop() -> str:
        return "done"

    return noop


async def orphan(noop: Task, *, known: bool = True, **columns: Any) -> Any:
    """A row that runs in the name of a process that is gone."""
    handle = await noop.using(delay=3600).aenqueue()
    holder = new_id()
    if known:
        at = "2020-01-01T00:00:00Z"
        await TaskRuntime.objects.acreate(
            id=holder, place="gone 1", started_at=at, renewed_at=at, lapses_at=at, dead=False
        )
    values = {"attempts": 1, "seq": 2, "run_after": None, **columns}
    await TaskExecution.objects.filter(id=handle.id).aupdate(
        status="running", runtime_id=holder, token=new_id(), **values
    )
    return handle


@pytest.mark.parametrize("known", [True, False])
async def test_an_orphan_runs_again(store: str, configure: Configure, known: bool) -> None:
    """Once its holder has been silent for a lease, or where no such runtime is known."""
    configure(lease_seconds=LEASE)
    snapshot = await final(await orphan(declared(), known=known))
    assert (snapshot.status, snapshot.result, snapshot.attempts) == ("completed", "done", 2)
    row = await TaskExecution.objects.aget(id=snapshot.id)
    assert (row.crashes, row.retry_count) == (1, 0)


async def test_what_may_not_run_twice_fails(store: str, configure: Configure) -> None:
    """As `worker_lost`; so does what has been lost too often."""
    configure(lease_seconds=LEASE, max_crashes=2)
    once = declared(rerun_on_crash=False)
    for handle in [await orphan(once), await orphan(once, rerun_on_crash=True, crashes=2)]:
        snapshot = await final(handle)
        assert (snapshot.status, snapshot.error_code) == ("failed", "worker_lost")
        assert snapshot.error == "The process that ran it was lost."
        assert snapshot.expires_at is not None
        assert snapshot.attempts == 1


async def test_an_orphan_whose_cancel_was_asked_for(store: str, configure: Configure) -> None:
    """Is cancelled, and does not run again."""
    configure(lease_seconds=LEASE)
    snapshot = await final(await orphan(declared(), cancel_requested=True))
    assert (snapshot.status, snapshot.error_code) == ("cancelled", "cancelled")


async def test_two_recoverers_count_one_crash(
    store: str, configure: Configure, runtimes: AsyncExitStack
) -> None:
    """And the orphan runs once."""
    configure(lease_seconds=LEASE)
    noop = declared()
    handles = [await orphan(noop) for _ in range(30)]
    for _ in range(2):
        await other_process(runtimes)
    for handle in handles:
        await final(handle)
    await runtimes.aclose()
    async for row in TaskExecution.objects.all():
        assert (row.status, row.crashes, row.attempts) == ("completed", 1, 2)
        assert row.seq == 5  # run, recovered, run, completed


async def test_a_runtime_that_is_taken_for_dead_goes_on_under_a_new_id(
    store: str, configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    """Running tasks are cancelled and handed back, at no cost; they run again, here."""
    configure(lease_seconds=LEASE)
    started: list[int] = []

    @task(name="recovery.twice")
    async def twice(info: Any) -> int:
        started.append(info.context.task.attempt)
        if info.context.task.attempt == 1:
            await asyncio.Event().wait()
        return 7

    handle = await twice.aenqueue()
    await eventually(lambda: started)
    runtime = host.current()
    assert runtime is not None
    before = runtime.id
    assert await TaskRuntime.objects.filter(id=before).aupdate(dead=True)
    snapshot = await final(handle)
    assert (snapshot.result, snapshot.attempts, snapshot.retry_count) == (7, 2, 0)
    assert runtime.id != before
    row = await TaskExecution.objects.aget(id=snapshot.id)
    assert row.crashes == 0
    await asyncio.to_thread(safe_logging.flush, 10)
    assert "took this one for dead" in caplog.text


async def test_a_claim_that_outlasts_its_lease_starts_nothing(
    store: str, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while there is no other lease yet: it is handed back, and runs under the next one."""
    configure(lease_seconds=LEASE)
    held: list[bool] = []

    @task(name="recovery.held")
    async def body() -> None:
        held.append(runtime.holding)

    await final(await declared().aenqueue())
    runtime = host.current()
    assert runtime is not None
    claim, begin = runtime.ledger.claim, OrmLeases.begin
    no_lease_yet = True

    async def claim_late(plan: Any) -> Any:
        due = await claim(plan)
        if due.claimed and not runtime.fences:
            runtime.services.leasing.lease.fence("the test says so")
            await eventually(lambda: not runtime.holding)
            runtime.loop.call_later(0.3, let_begin)
        return due

    def let_begin() -> None:
        nonlocal no_lease_yet
        no_lease_yet = False

    def begin_later(leases: OrmLeases, *args: Any) -> None:
        if no_lease_yet:
            raise OperationalError("the server is gone")
        begin(leases, *args)

    monkeypatch.setattr(OrmLeases, "begin", begin_later)
    monkeypatch.setattr(runtime.ledger, "claim", claim_late)
    snapshot = await final(await body.using(delay=0.05).aenqueue())
    assert held == [True]
    row = await TaskExecution.objects.aget(id=snapshot.id)
    assert (row.status, row.attempts, row.crashes) == ("completed", 2, 0)


async def test_a_row_that_its_holder_does_not_know_is_handed_back(
    store: str, configure: Configure, timings: Timings
) -> None:
    """At the second look; it counts as no crash."""
    timings.set("reconciler", interval=0.05)
    noop = declared()
    await final(await noop.aenqueue())
    runtime = host.current()
    assert runtime is not None
    handle = await orphan(noop)
    await TaskExecution.objects.filter(id=handle.id).aupdate(runtime_id=runtime.id)
    snapshot = await final(handle)
    assert (snapshot.status, snapshot.attempts) == ("completed", 2)
    assert (await TaskExecution.objects.aget(id=handle.id)).crashes == 0


async def test_a_name_that_no_process_knows_fails_after_a_while(
    store: str, configure: Configure, timings: Timings
) -> None:
    """Not while a live process knows it; its neighbours are not held up."""
    timings.set("reconciler", interval=0.02)
    configure(unknown_task_seconds=0.5)
    noop = declared()
    known, unknown = [await noop.using(delay=3600).aenqueue() for _ in "ab"]
    at = "2020-01-01T00:00:00Z"
    newer = await TaskRuntime.objects.acreate(
        id=new_id(), place="newer 1", names=["recovery.newer"], started_at=at,
        renewed_at="2999-01-01T00:00:00Z", lapses_at="2999-01-01T00:00:00Z",
    )  # fmt: skip
    began = time.monotonic()
    for handle, name in ((known, "recovery.newer"), (unknown, "recovery.nowhere")):
        await TaskExecution.objects.filter(id=handle.id).aupdate(name=name, run_after=None)
    snapshot = await final(unknown)
    assert time.monotonic() - began >= 0.4
    assert (snapshot.status, snapshot.error_code) == ("failed", "unknown_task")
    assert "recovery.nowhere" in (snapshot.error or "")
    assert (await known.arefresh()).status == "pending"
    await TaskRuntime.objects.filter(id=newer.id).aupdate(dead=True)
    assert (await final(known)).error_code == "unknown_task"


async def test_an_outage_of_the_database_counts_no_crash(
    store: str, configure: Configure, runtimes: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes that could not renew for longer than the lease: neither condemns the other."""
    configure(lease_seconds=LEASE)
    noop = declared()
    await final(await noop.aenqueue())
    mine, other = host.current(), await other_process(runtimes)
    assert mine is not None
    await asyncio.sleep(LEASE * 1.5)  # both may judge
    with monkeypatch.context() as outage:

        def fail(*_: object) -> None:
            raise OperationalError("the server is gone")

        outage.setattr(OrmLeases, "renew", fail)
        outage.setattr(OrmLeases, "begin", fail)
        await asyncio.sleep(LEASE * 2)
    await eventually(lambda: mine.holding and other.holding)
    await asyncio.sleep(LEASE)

    def condemned() -> int:
        return TaskRuntime.objects.filter(dead=True, id__in=[mine.id, other.id]).count()

    assert await sync_to_async(condemned)() == 0
    assert (await final(await noop.aenqueue())).status == "completed"


async def test_who_blocks_the_loop_is_named(
    store: str, configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    """With its stack, while it is at it; and counted."""

    @task(name="recovery.blocker")
    async def blocker() -> None:
        until = time.monotonic() + TIMEOUT
        while not blocks(caplog, "recovery.blocker") and time.monotonic() < until:
            time.sleep(0.05)  # noqa: ASYNC251 (that is the point)

    caplog.set_level(logging.WARNING)
    handle = await blocker.aenqueue()
    await final(handle)
    runtime = host.current()
    assert runtime is not None
    assert runtime.statistics()["blocked"] >= 1
    await asyncio.to_thread(safe_logging.flush, 10)
    (line,) = blocks(caplog, "recovery.blocker")
    assert f"the task recovery.blocker ({handle.id})" in line
    assert "in blocker" in line


def blocks(caplog: pytest.LogCaptureFixture, name: str) -> list[str]:
    """The lines that name the task as what blocks the loop."""
    found = [it.getMessage() for it in caplog.records]
    return [it for it in found if "has been blocked" in it and name in it]


@pytest.mark.parametrize("rerun", [True, False])
async def test_the_late_end_of_a_lost_attempt_is_not_accepted(
    store: str, configure: Configure, rerun: bool
) -> None:
    """Also where it came to the same status by itself: its failure is reported once."""
    noop = declared(rerun_on_crash=rerun)
    await final(await noop.aenqueue())
    runtime = host.current()
    assert runtime is not None
    lost = await orphan(noop)
    row = await TaskExecution.objects.aget(id=lost.id)
    assert row.token is not None
    assert row.runtime_id is not None
    status = Status.RETRYING if rerun else Status.FAILED
    freed = await runtime.ledger.recoveries().recover(Recovery(row.runtime_id, 3, None), 10)
    assert [(it.id, it.status) for it in freed] == [(lost.id, status)]
    answers: list[Any] = []
    outcome = Outcome(
        id=lost.id, token=row.token, status=status, progress=0, error="late", retried=1
    )
    runtime.ledger.settle(outcome, answers.append)
    await eventually(lambda: answers)
    assert answers == [None]
    assert (await TaskExecution.objects.aget(id=lost.id)).retry_count == 0


async def test_each_process_is_judged_by_its_own_lease(store: str, configure: Configure) -> None:
    """A release may bring another `lease_seconds`; old and new processes live side by side."""
    await final(await declared().aenqueue())  # the tables are there
    short, long = new_id(), new_id()

    def judged() -> set[Any]:
        leases = OrmLeases("default")
        leases.begin(short, [], 0.2)
        leases.begin(long, [], 30.0)
        time.sleep(0.5)
        leases.condemn()
        leases.reset()
        return set(TaskRuntime.objects.filter(dead=True).values_list("id", flat=True))

    dead = await sync_to_async(judged)()
    assert short in dead
    assert long not in dead


@pytest.mark.parametrize("error", [InterfaceError("closed"), RuntimeError("odd"), KeyError("x")])
async def test_no_error_ends_the_lease_for_good(
    store: str, configure: Configure, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Whatever it is: without its lease a process is of no use, and would not show it."""
    configure(lease_seconds=LEASE)
    noop = declared()
    await final(await noop.aenqueue())
    raised: list[bool] = []

    def fail(leases: OrmLeases, *args: Any) -> bool:
        raised.append(True)
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(OrmLeases, "renew", fail)
        await eventually(lambda: len(raised) >= 3)
    runtime = host.current()
    assert runtime is not None
    await eventually(lambda: runtime.holding)
    assert (await final(await noop.aenqueue())).status == "completed"


async def test_a_read_that_fails_holds_nothing_up(store: str, configure: Configure) -> None:
    """Such as one that takes longer than the project's `statement_timeout`, each time."""
    noop = declared()
    await final(await noop.aenqueue())
    runtime = host.current()
    assert runtime is not None
    tries: list[bool] = []

    def too_long() -> None:
        tries.append(True)
        raise OperationalError("canceling statement due to statement timeout")

    assert isinstance(runtime.ledger, OrmLedger)
    reads = [asyncio.ensure_future(runtime.ledger.writers().read(too_long)) for _ in range(3)]
    handles = [await noop.aenqueue() for _ in range(20)]
    async with asyncio.timeout(TIMEOUT):
        for read in reads:
            with pytest.raises(OperationalError):
                await read
        for handle in handles:
            assert (await final(handle)).status == "completed"
    assert 1 <= len(tries) <= 3  # those of one batch fail together


async def test_a_stopped_runtime_leaves_no_lease(store: str, configure: Configure) -> None:
    """No process waits until it is found."""
    await final(await declared().aenqueue())
    await host.astop()
    assert await TaskRuntime.objects.filter(dead=False).acount() == 0
    assert connection.alias
    assert await service.alist(SYSTEM, status="running") == []


async def test_a_renewal_stores_the_role(store: str, configure: Configure) -> None:
    """A process becomes a worker at its first delivery, after its lease has begun."""

    def renewed() -> list[str | None]:
        leases, process = OrmLeases("default"), new_id()
        row = TaskRuntime.objects.filter(id=process).values_list("role", flat=True)
        leases.begin(process, [], 30.0, Vitals(role="web"))
        found = [row.get()]
        assert leases.renew(process, 30.0, Vitals(role="worker")).alive
        found.append(row.get())
        leases.reset()
        return found

    assert await sync_to_async(renewed)() == ["web", "worker"]
