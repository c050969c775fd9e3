"""`around_task`: a context manager of the project's around each body."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group, User
from django.db import connection

from rail_async_tasks import AttemptInfo, ConfigurationError, Fail, task
from rail_async_tasks.hosting import process as host
from tests.support import around
from tests.support.around import LIFE, SEEN, declared, heard, path
from tests.support.clock import FakeClock
from tests.support.runtimes import Configure, in_memory, on_databases
from tests.support.waiting import TIMEOUT, eventually, final, until_status

pytestmark = [pytest.mark.usefixtures("ends_cleanly"), pytest.mark.turns("store")]


@pytest.fixture(autouse=True)
def silence() -> None:
    heard.clear()


FACTORIES = [
    around.plain,
    around.in_task,
    around.Either,
    around.makes_async,
    around.made_on_the_loop,
]
every_factory = pytest.mark.parametrize("factory", FACTORIES, ids=lambda it: it.__name__)
every_kind = pytest.mark.parametrize("kind", ["coroutine", "thread"])


# --- what it is entered for ----------------------------------------------------------------------


@every_factory
@every_kind
@in_memory
async def test_a_body_sees_what_its_manager_sets(
    configure: Configure, kind: str, factory: Any
) -> None:
    """The body and its threads; the manager can reset what it has set; nothing of it is left."""
    configure(around_task=path(factory))
    look_around = declared(kind)
    for _ in range(3):
        heard.clear()
        done = await final(await look_around.using(tenant_id="north").aenqueue())
        assert (done.status, done.error) == ("completed", None)
        assert [*done.result] == [SEEN] * (2 if kind == "coroutine" else 1)
        assert heard == LIFE
    assert around.tenant.get() == "none"


@every_kind
@in_memory
async def test_it_is_entered_for_each_attempt(configure: Configure, kind: str) -> None:
    """And hears why the body ended."""
    configure(around_task=path(around.plain))

    def body(info: Any) -> int:
        if info.context.task.attempt == 1:
            raise KeyError("once")
        return info.context.task.attempt  # type: ignore[no-any-return]

    async def coroutine(info: Any) -> int:
        return body(info)

    def function(info: Any) -> int:
        return body(info)

    flaky = task(name="around.flaky")(coroutine if kind == "coroutine" else function)
    assert (await final(await flaky.aenqueue())).result == 2
    enters = [("enter", "around.flaky", attempt) for attempt in (1, 2)]
    assert heard == [enters[0], "KeyError", "leave", enters[1], "leave"]


attempts: list[AttemptInfo] = []


@contextmanager
def keeps(info: AttemptInfo) -> Iterator[None]:
    attempts.append(info)
    yield


@on_databases
async def test_the_facts_that_it_gets(configure: Configure, store: str) -> None:
    """The attempt: who, what, which try, with the arguments that were given, none sensitive."""
    from cryptography.fernet import Fernet

    configure(around_task=path(keeps), encryption_keys=[Fernet.generate_key().decode()])
    attempts.clear()

    @task(name="around.facts", queue="high", sensitive=["secret"])
    async def facts(number: int, secret: str, label: str = "none") -> None: ...

    ada = await User.objects.acreate(username="ada")
    handle = await facts.using(owner=ada, tenant_id="north").aenqueue(number=3, secret="s3cret")
    await final(handle)
    assert attempts == [
        AttemptInfo(
            id=handle.id, name="around.facts", attempt=1, queue="high", owner_id=str(ada.pk),
            tenant_id="north", arguments=MappingProxyType({"number": 3}),
        )
    ]  # fmt: skip


@contextmanager
def creates_the_owner(info: AttemptInfo) -> Iterator[None]:
    """The users are in the tenant's own tables, say: within it they are found, outside not."""
    User.objects.filter(pk=info.owner_id).update(username="within")
    yield
    User.objects.filter(pk=info.owner_id).update(username="outside")


@every_kind
@on_databases
async def test_the_owner_is_loaded_within_it(configure: Configure, store: str, kind: str) -> None:
    """A tenant may have users of its own."""
    configure(around_task=path(creates_the_owner))

    async def coroutine(info: Any) -> str:
        return str(info.context.user.username)

    def function(info: Any) -> str:
        return str(info.context.user.username)

    name = task(name="around.owner")(coroutine if kind == "coroutine" else function)
    ada = await User.objects.acreate(username="outside")
    assert (await final(await name.using(owner=ada).aenqueue())).result == "within"


@every_kind
@on_databases
async def test_a_plain_manager_may_query(configure: Configure, store: str, kind: str) -> None:
    """Around an `async def` body too."""
    configure(around_task=path(around.querying))

    async def coroutine() -> None:
        await Group.objects.acreate(name="new")

    def function() -> None:
        Group.objects.create(name="new")

    add = task(name="around.add")(coroutine if kind == "coroutine" else function)
    assert (await final(await add.aenqueue())).status == "completed"
    assert heard == [0, 1]


# --- connections ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "factory",
    [around.marks_the_connection, around.marks_it_from_the_task],
    ids=lambda it: it.__name__,
)
@on_databases
async def test_what_it_sets_on_a_connection_is_for_one_body(
    configure: Configure, store: str, factory: Any
) -> None:
    """Bodies run at once and take turns, each with its own; those after them find none of it."""
    configure(around_task=path(factory), max_workers=2)
    gate = asyncio.Event()

    def mark() -> Any:
        return getattr(connection, "tenant_of_test", None)

    @task(name="around.marked")
    async def marked() -> list[Any]:
        seen = [await sync_to_async(mark)()]
        heard.append("waits")
        await gate.wait()
        return [*seen, await sync_to_async(mark)()]

    names = [f"tenant {number}" for number in range(8)]
    handles = [await marked.using(tenant_id=name).aenqueue() for name in names]
    await eventually(lambda: len(heard) == len(names))
    gate.set()
    assert [(await final(it)).result for it in handles] == [[name, name] for name in names]


@pytest.mark.postgres
@pytest.mark.parametrize("store", ["postgres"], indirect=True)
async def test_a_variable_of_the_session_is_for_one_body(configure: Configure) -> None:
    """A plain statement that the manager executes: the driver knows nothing of what it sets."""
    configure(around_task=path(around.sets_a_variable), max_workers=2)
    gate = asyncio.Event()

    def setting() -> Any:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('app.tenant', true)")
            return cursor.fetchone()[0]

    @task(name="around.session")
    async def session() -> list[Any]:
        seen = [await sync_to_async(setting)()]
        heard.append("waits")
        await gate.wait()
        return [*seen, await sync_to_async(setting)()]

    names = [f"tenant {number}" for number in range(6)]
    handles = [await session.using(tenant_id=name).aenqueue() for name in names]
    await eventually(lambda: len(heard) == len(names))
    gate.set()
    assert [(await final(it)).result for it in handles] == [[name, name] for name in names]


@in_memory
async def test_without_a_touched_connection_bodies_share_their_threads(
    configure: Configure,
) -> None:
    """Managers that set context variables alone cost no connection per body."""
    configure(around_task=path(around.plain), max_workers=2)
    gate = asyncio.Event()

    @task(name="around.shared")
    async def shared() -> str:
        heard.append("waits")
        await gate.wait()
        return await sync_to_async(lambda: threading.current_thread().name)()

    handles = [await shared.aenqueue() for _ in range(8)]
    await eventually(lambda: heard.count("waits") == 8)
    gate.set()
    assert len({(await final(it)).result for it in handles}) <= 2


@every_kind
@on_databases
async def test_a_transaction_around_each_body(configure: Configure, store: str, kind: str) -> None:
    """What a failed body has written is gone."""
    configure(around_task=path(around.in_a_transaction))

    async def coroutine(fails: bool) -> None:
        await Group.objects.acreate(name=f"fails: {fails}")
        if fails:
            raise Fail("after all")

    def function(fails: bool) -> None:
        Group.objects.create(name=f"fails: {fails}")
        if fails:
            raise Fail("after all")

    write = task(name="around.write")(coroutine if kind == "coroutine" else function)
    assert (await final(await write.aenqueue(fails=True))).status == "failed"
    assert (await final(await write.aenqueue(fails=False))).status == "completed"
    assert [it.name async for it in Group.objects.all()] == ["fails: False"]


# --- errors --------------------------------------------------------------------------------------


async def row_of(handle: Any) -> Any:
    from rail_async_tasks.models import TaskExecution

    return await TaskExecution.objects.aget(id=handle.id)


@every_kind
@on_databases
async def test_an_error_on_the_way_in_is_one_of_the_attempt(
    configure: Configure, store: str, kind: str
) -> None:
    """With its traceback, and retried as one; the body has not begun."""
    configure(around_task=path(around.fails_to_enter), retry_delay=60)
    handle = await declared(kind).aenqueue()
    retrying = await until_status(handle, "retrying")
    assert (retrying.error, retrying.error_code) == ("on the way in", "exception")
    assert "fails_to_enter" in (await row_of(handle)).traceback
    assert heard == []
    await handle.acancel()


@every_kind
@in_memory
async def test_a_refusal_on_the_way_in(configure: Configure, kind: str) -> None:
    """`Fail` there means what it means in a body."""
    configure(around_task=path(around.refuses))
    failed = await final(await declared(kind).aenqueue())
    assert (failed.status, failed.error, failed.attempts) == ("failed", "not today", 1)


@every_kind
@on_databases
async def test_an_error_on_the_way_out_is_one_of_the_attempt(
    configure: Configure, store: str, kind: str
) -> None:
    """Although the body has run."""
    configure(around_task=path(around.fails_to_leave))
    handle = await declared(kind, max_retries=0).aenqueue()
    failed = await final(handle)
    assert (failed.status, failed.error, failed.result) == ("failed", "on the way out", None)
    assert "fails_to_leave" in (await row_of(handle)).traceback
    assert heard == ["body"]


@pytest.mark.parametrize(
    "factory", [around.swallows, around.swallows_in_task], ids=lambda it: it.__name__
)
@every_kind
@in_memory
async def test_it_cannot_swallow_an_error(
    configure: Configure, kind: str, factory: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A task that has failed is seen to have failed; the log says what to do."""
    configure(around_task=path(factory))

    async def coroutine() -> None:
        raise KeyError("lost")

    def function() -> None:
        raise KeyError("lost")

    fails = task(name="around.fails", max_retries=0)(coroutine if kind == "coroutine" else function)
    failed = await final(await fails.aenqueue())
    assert (failed.status, failed.error) == ("failed", "'lost'")
    assert heard == ["swallowed KeyError"]
    [warning] = [it for it in caplog.records if "swallowed" in it.getMessage()]
    assert warning.levelno == logging.WARNING
    assert f"({failed.id})" in warning.getMessage()


@every_kind
@in_memory
async def test_it_may_raise_another_error(configure: Configure, kind: str) -> None:
    """In place of the body's."""
    configure(around_task=path(around.replaces))

    async def coroutine() -> None:
        raise KeyError("inner")

    def function() -> None:
        raise KeyError("inner")

    fails = task(name="around.fails")(coroutine if kind == "coroutine" else function)
    failed = await final(await fails.aenqueue())
    assert (failed.status, failed.error, failed.attempts) == ("failed", "replaced", 1)


@every_kind
@in_memory
async def test_what_is_no_manager(configure: Configure, kind: str) -> None:
    """A generator, for example: the error names the decorator."""
    configure(around_task=path(around.generator))
    failed = await final(await declared(kind, max_retries=0).aenqueue())
    assert failed.status == "failed"
    assert "generator returned generator" in str(failed.error)
    assert "@contextlib.contextmanager" in str(failed.error)


@in_memory
async def test_without_it_no_body_runs(configure: Configure) -> None:
    """A path that can't be imported: the tenant that it would choose is not left out."""
    configure(around_task="tests.support.around.missing")
    with pytest.raises(ConfigurationError, match="around_task"):
        await declared("coroutine").aenqueue()
    assert heard == []


# --- interruptions -------------------------------------------------------------------------------


@pytest.mark.parametrize("factory", [around.plain, around.in_task], ids=lambda it: it.__name__)
@every_kind
@in_memory
async def test_a_cancel_passes_through_it(configure: Configure, kind: str, factory: Any) -> None:
    """It leaves, and hears of the cancel."""
    configure(around_task=path(factory))

    async def coroutine(info: Any) -> None:
        heard.append("body")
        await asyncio.Event().wait()

    def function(info: Any) -> None:
        heard.append("body")
        while True:
            info.context.task.raise_if_cancelled()
            time.sleep(0.002)

    lingers = task(name="around.lingers")(coroutine if kind == "coroutine" else function)
    handle = await lingers.aenqueue()
    await eventually(lambda: "body" in heard)
    await handle.acancel()
    assert (await final(handle)).status == "cancelled"
    error = "CancelledError" if kind == "coroutine" else "TaskCancelled"
    assert heard == [("enter", "around.lingers", 1), "body", error, "leave"]


@pytest.mark.parametrize("factory", [around.plain, around.in_task], ids=lambda it: it.__name__)
@in_memory
async def test_a_timeout_passes_through_it(
    configure: Configure, factory: Any, clock: FakeClock
) -> None:
    """The body has begun by then, however long its manager takes to be entered."""
    configure(around_task=path(factory))

    @task(name="around.slow", timeout=60, max_retries=0)
    async def slow() -> None:
        heard.append("body")
        await asyncio.Event().wait()

    handle = await slow.aenqueue()
    await eventually(lambda: "body" in heard)
    await clock.advance(60)
    failed = await final(handle)
    assert (failed.status, failed.error_code) == ("failed", "timeout")
    assert heard == [("enter", "around.slow", 1), "body", "CancelledError", "leave"]


@every_kind
@in_memory
async def test_a_cancel_while_it_is_entered_in_the_task(configure: Configure, kind: str) -> None:
    """Of a `def` task too: no thread of it runs yet."""
    configure(around_task=path(around.enters_for_ever))
    handle = await declared(kind).aenqueue()
    await eventually(lambda: heard == ["entering"])
    await handle.acancel()
    assert (await final(handle)).status == "cancelled"
    assert heard == ["entering", "leave"]


@in_memory
async def test_a_cancel_while_it_is_entered_in_a_thread(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing ends a thread: what it has entered is left, and no body begins."""
    may_enter = threading.Event()
    monkeypatch.setattr(around, "may_enter", may_enter)
    configure(around_task=path(around.enters_slowly))
    handle = await declared("coroutine").aenqueue()
    await eventually(lambda: heard == ["entering"])
    await handle.acancel()
    runtime = host.current()
    assert runtime is not None
    # The attempt has been interrupted.
    await eventually(lambda: runtime.attempts[handle.id].snapshot.cancel_requested)
    may_enter.set()
    assert (await final(handle)).status == "cancelled"
    assert heard == ["entering", "leave"]


@in_memory
async def test_a_drain_passes_through_it(configure: Configure) -> None:
    """What is handed back has left its manager."""
    configure(around_task=path(around.plain), drain_seconds=0)

    @task(name="around.lingers")
    async def lingers() -> None:
        heard.append("body")
        await asyncio.Event().wait()

    handle = await lingers.aenqueue()
    await eventually(lambda: "body" in heard)
    await asyncio.wait_for(host.astop(), TIMEOUT)
    assert (await handle.arefresh()).status == "retrying"
    assert heard == [("enter", "around.lingers", 1), "body", "CancelledError", "leave"]
