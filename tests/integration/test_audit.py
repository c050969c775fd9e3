"""Audit rows: what became of a task, and who caused it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError, transaction
from django.utils import timezone

from rail_async_tasks import Task, service, task
from rail_async_tasks.access import SYSTEM, Viewer
from rail_async_tasks.db_connections import DriverCursor
from rail_async_tasks.hosting import process as host
from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.batch import Batch
from rail_async_tasks.models import TaskEvent, TaskExecution, TaskRuntime
from rail_async_tasks.service import EnqueueOptions
from tests.support.runtimes import Configure, on_databases
from tests.support.timings import Timings
from tests.support.waiting import eventually, final, no

pytestmark = [on_databases, pytest.mark.usefixtures("ends_cleanly"), pytest.mark.turns("store")]

ADA = Viewer("7", tenant_id="blue")


def declared(**options: Any) -> Task:
    @task(name="audit.noop", **options)
    async def noop(fail: bool = False) -> None:
        if fail:
            raise ValueError("secret")

    return noop


async def events_of(task_id: Any) -> list[tuple[Any, ...]]:
    events = TaskEvent.objects.filter(execution_id=task_id).order_by("seq", "id")
    return [(it.seq, it.from_status, it.to_status, it.reason, it.actor) async for it in events]


async def start(noop: Task, fail: bool = False, **options: Any) -> Any:
    return await service.aenqueue(noop.definition, {"fail": fail}, EnqueueOptions(**options))


async def ended(task_id: Any) -> None:
    from rail_async_tasks import TaskHandle

    await final(TaskHandle(await service.aget(SYSTEM, task_id)))


async def test_a_life_is_audited_edge_by_edge(store: str, configure: Configure) -> None:
    """With the runtime's name where it acted; with the row's owner and tenant."""
    configure(audit_enabled=True, max_retries=1)
    noop = declared()
    born = await start(noop, fail=True, owner_id="7", tenant_id="blue", actor="7")
    await ended(born.id)
    runtime = host.current()
    assert runtime is not None
    mine = f"runtime:{runtime.id}"
    assert await events_of(born.id) == [
        (1, None, "pending", "created", "7"),
        (2, "pending", "running", "claimed", mine),
        (3, "running", "retrying", "retrying", "runtime"),
        (4, "retrying", "running", "claimed", mine),
        (5, "running", "failed", "exception", "runtime"),
    ]
    event = await TaskEvent.objects.filter(execution_id=born.id).alatest("seq")
    assert (event.name, event.owner_id, event.tenant_id, event.attempt) == (
        "audit.noop", "7", "blue", 2,
    )  # fmt: skip
    again = await service.aretry(ADA, born.id)
    assert (await events_of(again.id))[0] == (1, None, "pending", "created", "7")


async def test_a_change_of_the_settings_counts_at_once(store: str, configure: Configure) -> None:
    """Under a runtime that lives on, and for a task that runs inline beside it, as in tests."""
    noop = declared()
    stored = []
    for settings in ({}, {"audit_enabled": True}, {"audit_enabled": True, "backend": "sync"}, {}):
        configure(**settings)
        born = await start(noop)
        await ended(born.id)
        stored.append([to for _, _, to, _, _ in await events_of(born.id)])
    life = ["pending", "running", "completed"]
    assert stored == [[], life, life, []]


async def test_the_audit_names_who_cancels(store: str, configure: Configure) -> None:
    """Of what waits, and of what runs: there the request is one event, its effect another."""
    configure(audit_enabled=True)

    @task(name="audit.linger")
    async def linger() -> None:
        await asyncio.Event().wait()

    waiting = await start(declared(), owner_id="7", tenant_id="blue", delay=3600.0)
    await service.acancel(ADA, waiting.id)
    assert (await events_of(waiting.id))[1:] == [(2, "pending", "cancelled", "cancelled", "7")]
    handle = await linger.aenqueue()
    await eventually(lambda: host.current().attempts)  # type: ignore[union-attr]
    await service.acancel(SYSTEM, handle.id)
    await final(handle)
    assert [it[1:] for it in await events_of(handle.id)][2:] == [
        ("running", "running", "cancel_requested", "system"),
        ("running", "cancelled", "cancelled", "runtime"),
    ]


async def test_recovery_is_audited(store: str, configure: Configure) -> None:
    """An attempt that was lost with its process."""
    configure(audit_enabled=True, lease_seconds=1.0)
    born = await start(declared(), delay=3600.0)
    await TaskRuntime.objects.acreate(
        id=(gone := new_id()), place="gone", started_at="2020-01-01T00:00:00Z",
        renewed_at="2020-01-01T00:00:00Z", lapses_at="2020-01-01T00:00:00Z", dead=True,
    )  # fmt: skip
    await TaskExecution.objects.filter(id=born.id).aupdate(
        status="running", runtime_id=gone, token=new_id(), attempts=1, seq=2, run_after=None
    )
    await ended(born.id)
    assert (3, "running", "retrying", "worker_lost", "recovery") in await events_of(born.id)


async def test_events_come_and_go_with_their_change(store: str, configure: Configure) -> None:
    """A transaction that is rolled back leaves neither."""
    configure(audit_enabled=True, backend="sync")
    noop = declared()

    def roll_back() -> None:
        with transaction.atomic():
            noop.enqueue()
            assert TaskEvent.objects.count() == 3
            transaction.set_rollback(True)

    await sync_to_async(roll_back)()
    assert await TaskEvent.objects.acount() == 0
    handle = await noop.aenqueue()
    assert [it[3] for it in await events_of(handle.id)] == ["created", "claimed", "completed"]


@pytest.mark.parametrize("what", ["create", "settle"])
async def test_a_lost_answer_is_audited_once(
    store: str, configure: Configure, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The COMMIT took effect, and its batch is written again."""
    configure(audit_enabled=True)
    original = DriverCursor.execute
    lost: list[str] = []
    done: list[str] = []

    def execute(cursor: DriverCursor, statement: str, params: Any = None) -> None:
        original(cursor, statement, params)
        if statement == "COMMIT" and done == [what] and not lost:
            lost.append(what)
            raise OperationalError("the answer was lost")

    def noted(name: str) -> Any:
        method = getattr(Batch, name)

        def call(self: Any, *args: Any) -> Any:
            done[:] = [name]
            return method(self, *args)

        return call

    for name in ("create", "settle"):
        monkeypatch.setattr(Batch, name, noted(name))
    monkeypatch.setattr(DriverCursor, "execute", execute)
    handle = await declared().aenqueue()
    await final(handle)
    assert lost == [what]
    assert [it[3] for it in await events_of(handle.id)] == ["created", "claimed", "completed"]


async def test_without_an_audit_there_is_none(store: str, configure: Configure) -> None:
    """Not a row, and not a statement."""
    await final(await declared().aenqueue())
    assert await TaskEvent.objects.acount() == 0


async def test_old_events_are_deleted(store: str, configure: Configure, timings: Timings) -> None:
    """In the background, after `audit_retention_days`; their tasks may be gone or not."""
    timings.set("cleanup", interval=0.05)
    configure(audit_enabled=True, audit_retention_days=2)
    ages = (1, 3)
    for days in ages:
        await TaskEvent.objects.acreate(
            execution_id=new_id(), name="old", seq=1, to_status="pending", attempt=0,
            reason=f"{days}", at=timezone.now() - timedelta(days=days),
        )  # fmt: skip
    await final(await declared().aenqueue())

    old = TaskEvent.objects.filter(name="old")
    await eventually(lambda: no(old.exclude(reason="1").aexists()))
    left = await TaskEvent.objects.aget(name="old")
    assert left.reason == "1"


@pytest.mark.parametrize("backend", ["asyncio", "sync"])
async def test_the_audit_names_who_starts(store: str, configure: Configure, backend: str) -> None:
    """The project's code, for any owner; a user; an anonymous caller."""
    configure(audit_enabled=True, backend=backend)
    noop = declared()
    by_code = await noop.using(owner="7").aenqueue()
    by_user = await start(noop, owner_id="7", actor="7")
    anonymously = await start(noop, anonymous=True)
    for it, actor in ((by_code, "system"), (by_user, "7"), (anonymously, "anonymous")):
        await ended(it.id)
        life = await events_of(it.id)
        assert life[0] == (1, None, "pending", "created", actor)
        assert [line[3] for line in life] == ["created", "claimed", "completed"]


async def test_the_audit_names_who_retries(store: str, configure: Configure) -> None:
    """Not whose task it is."""
    configure(audit_enabled=True)
    born = await start(declared(), owner_id="7", tenant_id="blue", actor="7")
    await ended(born.id)
    for viewer, actor in (
        (ADA, "7"),
        (SYSTEM, "system"),
        (Viewer("1", sees_all=True, changes_all=True), "1"),
    ):
        again = await service.aretry(viewer, born.id)
        assert again.owner_id == "7"
        assert (await events_of(again.id))[0][4] == actor
        await ended(again.id)
    unowned = await start(declared_too(), anonymous=True)
    await ended(unowned.id)
    again = await service.aretry(Viewer(), unowned.id)
    assert (await events_of(again.id))[0][4] == "anonymous"
    await ended(again.id)


def declared_too() -> Task:
    @task(name="audit.other")
    async def other(fail: bool = False) -> None: ...

    return other


@pytest.mark.parametrize("backend", ["asyncio", "sync"])
async def test_a_creation_in_the_callers_transaction(
    store: str, configure: Configure, backend: str
) -> None:
    """Its event commits with it, and rolls back with it."""
    configure(audit_enabled=True, backend=backend)
    noop = declared()

    def create(*, roll_back: bool) -> Any:
        with transaction.atomic():
            handle = noop.enqueue()
            assert TaskEvent.objects.filter(execution_id=handle.id).exists()
            transaction.set_rollback(roll_back)
        return handle

    gone = await sync_to_async(create)(roll_back=True)
    assert await events_of(gone.id) == []
    kept = await sync_to_async(create)(roll_back=False)
    await ended(kept.id)
    assert [it[3] for it in await events_of(kept.id)] == ["created", "claimed", "completed"]


async def test_every_third_answer_is_lost_and_each_change_is_audited_once(
    store: str, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of creations, claims and outcomes: as many events as changes, and no gap."""
    configure(audit_enabled=True, max_retries=1, max_concurrency=5)
    original = DriverCursor.execute
    commits = lost = 0

    def execute(cursor: DriverCursor, statement: str, params: Any = None) -> None:
        nonlocal commits, lost
        original(cursor, statement, params)
        if statement == "COMMIT":
            commits += 1
            if commits % 3 == 0 and lost < 15:
                lost += 1
                raise OperationalError("the answer was lost")

    monkeypatch.setattr(DriverCursor, "execute", execute)
    noop = declared()
    born = await asyncio.gather(*(start(noop, fail=n % 5 == 0) for n in range(40)))
    for it in born:
        await ended(it.id)
    assert lost >= 3
    async for row in TaskExecution.objects.all():
        life = await events_of(row.id)
        assert [line[0] for line in life] == list(range(1, row.seq + 1)), life
        assert life[-1][2] == row.status
        assert [line[3] for line in life].count("claimed") == row.attempts
