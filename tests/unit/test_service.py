"""The service: who may, then what. Rows in memory, the runtime in the test's loop."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rail_async_tasks import service
from rail_async_tasks.access import SYSTEM, Viewer
from rail_async_tasks.errors import (
    AlreadyFinal,
    ConfigurationError,
    InvalidArguments,
    NotFinal,
    TaskError,
    TaskNotFound,
    TasksDisabled,
    UnknownQueue,
)
from rail_async_tasks.hosting import process as host
from rail_async_tasks.ids import new_id
from rail_async_tasks.registry import registry
from rail_async_tasks.service import EnqueueOptions
from tests.unit.conftest import Configure
from tests.unit.service_world import (
    ADA,
    ANONYMOUS,
    AUDITOR,
    ECHO,
    GRACE,
    ONLY,
    WAIT,
    finished,
    gate,
    start,
    started,
)

pytestmark = pytest.mark.usefixtures("service_world")


# --- enqueue --------------------------------------------------------------------------------------


async def test_an_execution_is_pending_at_its_creation_and_runs(loop_kind: str) -> None:
    """With the declaration's and the settings' values where the start says nothing."""
    born = await start(ECHO, owner_id="1", tenant_id="a")
    assert (born.status, born.seq, born.attempts, born.started_at) == ("pending", 1, 0, None)
    assert (born.name, born.queue, born.priority, born.max_retries) == (
        "service.echo", "service", 0, 3,
    )  # fmt: skip
    assert (born.owner_id, born.tenant_id, born.parent_id) == ("1", "a", None)
    end = await finished(born)
    assert (end.status, end.result, end.progress, end.attempts) == ("completed", 7, 100, 1)
    assert end.expires_at is not None
    assert end.completed_at is not None
    lasts = end.expires_at - end.completed_at
    assert abs(lasts - timedelta(days=1)) < timedelta(seconds=1)


async def test_a_start_overrides_its_declaration() -> None:
    """Queue and priority; what it does not say stays."""
    declared = await start()
    assert (declared.queue, declared.priority, declared.max_retries) == ("default", 4, 1)
    said = await start(queue="low", priority=0)
    assert (said.queue, said.priority, said.max_retries) == ("low", 0, 1)


async def test_an_unknown_queue_is_refused_with_those_there_are() -> None:
    """One that a declaration names is known."""
    with pytest.raises(UnknownQueue, match=r"'hihg'.*default.*high"):
        await start(queue="hihg")
    assert (await start(queue="service")).queue == "service"


async def test_delays() -> None:
    """Seconds or a timedelta; a delay of nothing is none."""
    for delay in (60, 60.0, timedelta(minutes=1)):
        it = await start(delay=delay)
        assert it.status == "pending"
        assert it.run_after is not None
        assert it.run_after - it.created_at == timedelta(minutes=1)
    for delay in (0, 0.0, timedelta()):
        assert (await start(delay=delay)).run_after is None


@pytest.mark.parametrize(
    "options",
    [
        {"delay": -1}, {"delay": float("nan")}, {"delay": float("inf")}, {"delay": "1"},
        {"delay": timedelta(seconds=-1)}, {"run_after": "2026-01-01"}, {"run_after": 5.0},
        {"delay": 1, "run_after": datetime(2026, 1, 1, tzinfo=UTC)},
    ],
)  # fmt: skip
async def test_times_that_are_none(options: dict[str, Any]) -> None:
    """Refused before anything is stored."""
    with pytest.raises(InvalidArguments):
        await start(**options)
    assert await service.alist(AUDITOR) == []


async def test_a_naive_run_after_is_in_the_current_time_zone(settings: Any) -> None:
    """As everywhere in Django."""
    settings.TIME_ZONE = "Asia/Kolkata"
    it = await start(run_after=datetime(2050, 1, 1, 5, 30))
    assert it.run_after == datetime(2050, 1, 1, 0, 0, tzinfo=UTC)


async def test_whether_a_time_has_passed_is_up_to_the_ledgers_clock() -> None:
    """It may be an hour behind this machine's; one of two days ago has passed by any clock."""
    lately = datetime.now(UTC) - timedelta(hours=1)
    it = await start(ECHO, run_after=lately)
    assert (it.status, it.run_after) == ("pending", lately)
    assert (await finished(it)).status == "completed"
    assert (await start(ECHO, run_after=lately - timedelta(days=2))).run_after is None


async def test_arguments_have_a_limit_in_bytes(in_memory: Configure) -> None:
    """The message names the setting."""
    in_memory(max_args_bytes=7)
    await service.aenqueue(ECHO, {"n": 7})
    with pytest.raises(InvalidArguments, match="max_args_bytes"):
        await service.aenqueue(ECHO, {"n": 77})
    with pytest.raises(InvalidArguments):
        await service.aenqueue(ECHO, {"n": "x"})


async def test_enqueue_on_a_loop_says_what_to_write() -> None:
    """It would block the loop."""
    with pytest.raises(RuntimeError, match=r"await service\.echo\.aenqueue"):
        service.enqueue(ECHO, {"n": 1})


async def test_disabled_tasks_refuse_everything(in_memory: Configure) -> None:
    """Every operation with the one error."""
    it = await finished(await start(ECHO))
    await host.astop()
    in_memory(enabled=False)
    for call in (start(), service.aget(SYSTEM, it.id), service.alist(SYSTEM),
                 service.acancel(SYSTEM, it.id), service.aretry(SYSTEM, it.id),
                 anext(service.watch(SYSTEM, it.id)), anext(service.watch_mine(ADA))):  # fmt: skip
        with pytest.raises(TasksDisabled):
            await call


async def test_a_unique_key_is_scoped_by_task_tenant_and_owner() -> None:
    """The same key elsewhere is another key; the same one here leads to the unfinished task."""
    first = await start(owner_id="1", tenant_id="a", unique_key="k")
    await started()
    again = await start(owner_id="1", tenant_id="a", unique_key="k")
    assert (again.id, again.status) == (first.id, "running")
    scopes = [
        await start(owner_id="2", tenant_id="a", unique_key="k"),
        await start(owner_id="1", tenant_id="b", unique_key="k"),
        await start(owner_id="1", unique_key="k"),
        await start(unique_key="k"),
        await start(ECHO, owner_id="1", tenant_id="a", unique_key="k"),
        await start(owner_id="1", tenant_id="a", unique_key="K"),
        await start(owner_id="1", tenant_id="a"),
    ]
    assert len({it.id for it in scopes} | {first.id}) == 8
    gate.go.set()
    await finished(first)
    assert (await start(owner_id="1", tenant_id="a", unique_key="k")).id != first.id


async def test_a_unique_task_is_unique_by_its_arguments() -> None:
    """One unfinished execution per arguments and owner."""
    first = await service.aenqueue(ONLY, {"n": 1})
    assert (await service.aenqueue(ONLY, {"n": 1})).id == first.id
    assert (await service.aenqueue(ONLY, {"n": 2})).id != first.id
    other = await service.aenqueue(ONLY, {"n": 1}, EnqueueOptions(owner_id="1"))
    assert other.id != first.id


# --- get and list ---------------------------------------------------------------------------------


async def test_what_may_not_be_seen_is_not_found_byte_for_byte() -> None:
    """A foreign, a missing and a malformed id read the same, for every operation."""
    foreign = await start(owner_id="1")
    errors = set()
    for call in (service.aget, service.acancel, service.aretry):
        for task_id in (foreign.id, str(foreign.id), new_id(), "x", ""):
            with pytest.raises(TaskNotFound) as raised:
                await call(GRACE, task_id)
            errors.add((type(raised.value), str(raised.value), raised.value.code))
    for task_id in (foreign.id, new_id(), "x"):
        with pytest.raises(TaskNotFound):
            await anext(service.watch(GRACE, task_id))
    assert len(errors) == 1
    assert (await service.aget(ADA, str(foreign.id).upper())).id == foreign.id


async def test_a_task_without_an_owner_is_for_who_knows_its_id(in_memory: Configure) -> None:
    """Seen and changed, but never listed; unless anonymous access is denied."""
    it = await start()
    assert (await service.aget(ANONYMOUS, it.id)).id == it.id
    assert await service.alist(ANONYMOUS) == []
    assert await service.alist(ADA) == []
    assert [found.id for found in await service.alist(AUDITOR)] == [it.id]
    in_memory(anonymous_access="deny")
    with pytest.raises(TaskNotFound):
        await service.aget(ANONYMOUS, it.id)


async def test_who_sees_all_may_not_change_all() -> None:
    """A right to look is none to cancel or to retry."""
    it = await start(owner_id="1")
    assert (await service.aget(AUDITOR, it.id)).id == it.id
    for call in (service.acancel, service.aretry):
        with pytest.raises(TaskNotFound):
            await call(AUDITOR, it.id)


@pytest.mark.parametrize(
    ("viewer", "listed"),
    [
        (ANONYMOUS, []),
        (ADA, ["ada"]),
        (Viewer("1", "acme"), ["ada at acme"]),
        (GRACE, []),
        (AUDITOR, ["ada", "ada at acme", "unowned"]),
        (SYSTEM, ["ada", "ada at acme", "unowned"]),
    ],
)
async def test_lists_have_what_is_the_viewers_within_the_tenant(
    viewer: Viewer, listed: list[str]
) -> None:
    """A task without an owner is in the lists of those alone who see all."""
    made = {
        (await start(owner_id="1", delay=3600)).id: "ada",
        (await start(owner_id="1", tenant_id="acme", delay=3600)).id: "ada at acme",
        (await start(delay=3600)).id: "unowned",
    }
    assert sorted(made[it.id] for it in await service.alist(viewer)) == listed


async def test_lists_are_the_viewers_own_newest_first() -> None:
    """Filtered and cut as asked."""
    mine = [await start(owner_id="1", delay=3600) for _ in range(3)]
    await start(owner_id="2", delay=3600)
    await finished(await start(ECHO, owner_id="1"))
    pending = await service.alist(ADA, status="pending")
    assert [it.id for it in pending] == [it.id for it in mine[::-1]]
    assert len(await service.alist(ADA, name="service.echo", queue="service")) == 1
    page = await service.alist(ADA, status="pending", limit=2)
    rest = await service.alist(ADA, status="pending", after=str(page[-1].id))
    assert [it.id for it in page + rest] == [it.id for it in mine[::-1]]


@pytest.mark.parametrize(
    "asked", [{"status": "done"}, {"limit": 0}, {"limit": 501}, {"limit": -1}, {"after": "x"}]
)
async def test_lists_that_cannot_be(asked: dict[str, Any]) -> None:
    """Refused, for those too who have nothing to list."""
    for viewer in (ADA, ANONYMOUS):
        with pytest.raises(InvalidArguments):
            await service.alist(viewer, **asked)


async def test_progress_is_read_where_it_is_newest() -> None:
    """Reads in this process show it before it is saved."""
    it = await start(owner_id="1")
    await started()
    gate.info.context.task.update_progress(42, "half")
    for found in (await service.aget(ADA, it.id), *await service.alist(ADA)):
        assert (found.progress, found.progress_message, found.version) == (42, "half", (2, 1))


# --- cancel and retry -----------------------------------------------------------------------------


async def test_cancel_of_a_task_that_waits() -> None:
    """Cancelled at once; it never runs."""
    it = await start(owner_id="1", delay=3600)
    end = await service.acancel(ADA, it.id)
    assert (end.status, end.error_code) == ("cancelled", "cancelled")
    with pytest.raises(AlreadyFinal):
        await service.acancel(ADA, it.id)
    assert not gate.started.is_set()


async def test_cancel_of_a_task_that_runs() -> None:
    """Flagged at once, cancelled when its body has ended."""
    it = await start(owner_id="1")
    await started()
    asked = await service.acancel(ADA, it.id)
    assert (asked.status, asked.cancel_requested) == ("running", True)
    end = await finished(it)
    assert (end.status, end.error, end.error_code) == ("cancelled", None, "cancelled")
    assert gate.info.context.task.cancel_requested


@pytest.mark.parametrize("place", ["hosting.process.bus", "service.change.announcer_for"])
async def test_a_cancel_reaches_its_task_without_bus_and_observers(
    monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Either may fail to be made, for example for want of a package; watchers re-read the row."""
    it = await start()
    await started()

    def fails(*_: Any) -> Any:
        raise ConfigurationError("a package is missing")

    with monkeypatch.context() as patched:
        patched.setattr(f"rail_async_tasks.{place}", fails)
        with pytest.raises(ConfigurationError):
            await service.acancel(ADA, it.id)
    assert (await finished(it)).status == "cancelled"


async def test_retry_is_a_new_task_with_a_parent() -> None:
    """Same arguments, owner, tenant, queue and priority; only of a final one."""
    options = {"owner_id": "1", "tenant_id": "a", "queue": "low", "priority": 9}
    viewer = Viewer("1", "a")
    first = await service.aenqueue(WAIT, {"n": 5}, EnqueueOptions(**options))
    with pytest.raises(NotFinal):
        await service.aretry(viewer, first.id)
    gate.go.set()
    await finished(first)
    again = await service.aretry(viewer, first.id)
    assert (again.parent_id, again.status) == (first.id, "pending")
    assert again.id != first.id
    same = ("name", "owner_id", "tenant_id", "queue", "priority", "max_retries")
    assert [getattr(again, it) for it in same] == [getattr(first, it) for it in same]
    assert (await finished(again)).result == 5


async def test_retry_of_a_task_that_is_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused, rather than stored and failed."""
    it = await finished(await start(ECHO, owner_id="1"))
    monkeypatch.setattr(registry, "_definitions", {})
    with pytest.raises(TaskError) as raised:
        await service.aretry(ADA, it.id)
    assert raised.value.code == "INVALID_ARGUMENT"
