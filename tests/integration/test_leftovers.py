"""Things that a body leaves in its task, on the loop or in its thread harm no other body."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group
from django.db import connection
from django.test import AsyncClient
from django.test.utils import override_settings

from rail_async_tasks import TaskFailed, task
from rail_async_tasks.hosting import process as host
from tests.integration import rubbish
from tests.support.databases import default_database, empty_tables, forget_connections
from tests.support.runtimes import Configure, in_memory, on_databases
from tests.support.waiting import TIMEOUT, eventually, final

# asyncio's own words on what a body has left behind.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.turns("store"),
]


@pytest.fixture
async def own_loop(configure: Configure) -> AsyncIterator[None]:
    """The runtime's loop is the test's; both end in order, whatever bodies have done to them."""
    loop = asyncio.get_running_loop()
    handler = loop.get_exception_handler()
    loop.set_exception_handler(lambda loop, context: None)
    try:
        yield
        await asyncio.wait_for(host.astop(), TIMEOUT)
        await rubbish.clear_away()
        gc.collect()
        await asyncio.sleep(0)
    finally:
        loop.set_exception_handler(handler)
        loop._executor_shutdown_called = False  # type: ignore[attr-defined]
        loop._default_executor = None  # type: ignore[attr-defined]


def statistics() -> dict[str, int]:
    runtime = host.current()
    assert runtime is not None
    return {key: runtime.statistics()[key] for key in ("running", "leaked", "unsettled")}


NOTHING = {"running": 0, "leaked": 0, "unsettled": 0}


@in_memory
@pytest.mark.usefixtures("own_loop", "loop_kind")
@pytest.mark.parametrize("leave", rubbish.ASYNC, ids=lambda it: it.__name__)
async def test_what_a_body_leaves_behind_hits_no_other(
    configure: Configure, leave: Callable[[], Awaitable[Any]]
) -> None:
    """Bodies that run before, while and after it fires complete at their first attempt."""
    configure(max_concurrency=3)
    fired = asyncio.Event()

    @task(name="l.leaves", max_retries=0)
    async def leaves() -> None:
        await leave()

    @task(name="l.innocent")
    async def innocent() -> str:
        await fired.wait()
        await asyncio.sleep(0)
        return rubbish.variable.get()

    handle = await leaves.aenqueue()
    assert (await final(handle)).status == "completed"
    runtime = host.current()
    handles = [await innocent.aenqueue() for _ in range(6)]
    asyncio.get_running_loop().call_later(rubbish.DEADLINE * 2, fired.set)
    ends = [await final(handle) for handle in handles]
    assert {(it.status, it.result, it.attempts) for it in ends} == {("completed", "clean", 1)}
    assert host.current() is runtime
    assert statistics() == NOTHING


# --- threads and connections ----------------------------------------------------------------------

KINDS = [
    "sqlite",
    *(pytest.param(kind, marks=pytest.mark.postgres) for kind in ("postgres", "lasting", "pool")),
]


@pytest.fixture
def kind(request: pytest.FixtureRequest, django_db_blocker: Any) -> Iterator[str]:
    """The database, and how long its connections last."""
    name: str = request.param
    store = "sqlite" if name == "sqlite" else "postgres"
    config = {**request.getfixturevalue(f"{store}_config")}
    if name == "lasting":
        config["CONN_MAX_AGE"] = None
    if name == "pool":
        pool = {"min_size": 1, "max_size": 2, "timeout": TIMEOUT}  # this thread's, and the bodies'
        config["OPTIONS"] = {**config.get("OPTIONS", {}), "pool": pool}
    with django_db_blocker.unblock(), default_database(config):
        try:
            yield name
        finally:
            empty_tables()
            if name == "pool":
                connection.close()
                connection.close_pool()  # type: ignore[attr-defined]
            forget_connections()


@pytest.fixture
def in_one_thread(kind: str) -> Iterator[None]:
    """One body at a time: each finds the thread of one before it."""
    with override_settings(RAIL_DJANGO_GRAPHQL={"task_settings": {"max_workers": 1}}):
        yield
        host.stop()


@pytest.mark.usefixtures("in_one_thread")
@pytest.mark.parametrize("kind", KINDS, indirect=True)
def test_what_a_def_body_leaves_in_its_thread_is_not_given_on(kind: str) -> None:
    """The next body of the thread finds it, and a connection, as if they were new."""
    rubbish_kinds = rubbish.THREAD + (rubbish.SQLITE if kind == "sqlite" else rubbish.POSTGRES)
    by_name = {leave.__name__: leave for leave in rubbish_kinds}
    threads = set()

    @task(name="l.leaves", max_retries=0)
    def leaves(name: str) -> None:
        threads.add(threading.get_ident())
        by_name[name]()

    @task(name="l.looks", max_retries=0)
    def looks() -> None:
        threads.add(threading.get_ident())
        found.append(rubbish.traces())

    clean = rubbish.untouched(connection.vendor)
    traces = {}
    for name in by_name:
        found: list[dict[str, Any]] = []
        leaves.enqueue(name=name).result(TIMEOUT)
        with suppress(TaskFailed):
            looks.enqueue().result(TIMEOUT)
        traces[name] = found
    assert {name: found for name, found in traces.items() if found != [clean]} == {}
    assert len(threads) < len(by_name)


# --- all of it at once ----------------------------------------------------------------------------

INNOCENT = 200
WORKERS = 4


# Of each kind, `def` and ORM, as many as run at once. A thread that has given its result, and is
# not free yet when the next call comes, is not waited for: at most as many again.
THREADS = 2 * 2 * WORKERS


def body_threads() -> list[str]:
    """The names of the threads in which bodies run."""
    names = [it.name for it in threading.enumerate()]
    return [name for name in names if name.startswith(("rail-tasks-def", "rail-tasks-orm"))]


class Used:
    """Returns what this process holds: attempts, asyncio tasks, objects in memory."""

    def __init__(self) -> None:
        gc.collect()
        alive = [type(it).__name__ for it in gc.get_objects()]
        self.objects = len(alive)
        self.attempts = alive.count("Attempt")
        self.tasks = len(asyncio.all_tasks())


@on_databases
@pytest.mark.usefixtures("own_loop", "loop_kind")
async def test_every_kind_of_rubbish_among_innocent_tasks(
    configure: Configure, store: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The innocent complete at their first attempt; the process is ready, and holds no more."""
    configure(max_workers=WORKERS)
    # A record of an error holds frames, and those hold all that ran; pytest keeps the records.
    caplog.set_level(logging.CRITICAL + 1, "asyncio")
    web = AsyncClient()
    in_threads = rubbish.THREAD + (rubbish.SQLITE if store == "sqlite" else rubbish.POSTGRES)
    # Django's own handler needs the loop's default executor.
    of_loop = {it.__name__: it for it in rubbish.ASYNC if it is not rubbish.no_default_executor}
    of_thread = {leave.__name__: leave for leave in in_threads}
    clean = rubbish.untouched(connection.vendor)
    found: list[dict[str, Any]] = []

    @task(name="l.leaves", max_retries=0)
    async def leaves(name: str) -> None:
        await of_loop[name]()

    @task(name="l.leaves_in_lane", max_retries=0)
    async def leaves_in_lane(name: str) -> None:
        await sync_to_async(of_thread[name])()

    @task(name="l.leaves_in_thread", max_retries=0)
    def leaves_in_thread(name: str) -> None:
        of_thread[name]()

    @task(name="l.innocent")
    async def innocent() -> bool:
        await asyncio.sleep(rubbish.DEADLINE)
        found.append(await sync_to_async(rubbish.traces)())
        return await sync_to_async(lambda: connection.in_atomic_block)()

    @task(name="l.innocent_in_thread")
    def innocent_in_thread() -> bool:
        found.append(rubbish.traces())
        return connection.in_atomic_block

    async def run(count: int) -> tuple[set[str], set[tuple[str, Any, int]]]:
        """Returns how the guilty have ended, and how the innocent have."""
        guilty = [await leaves.aenqueue(name=name) for name in of_loop]
        guilty += [await leaves_in_thread.aenqueue(name=name) for name in of_thread]
        guilty += [await leaves_in_lane.aenqueue(name=name) for name in of_thread]
        kinds = [innocent, innocent_in_thread]
        handles = [await kinds[number % 2].aenqueue() for number in range(count)]
        ends = [await final(handle) for handle in guilty]
        innocents = [await final(handle) for handle in handles]
        await rubbish.clear_away()
        return {it.status for it in ends}, {(it.status, it.result, it.attempts) for it in innocents}

    await run(20)  # what is made once is made
    await web.get("/tasks/health/ready")
    warm = Used()
    before = await Group.objects.acount()
    assert await run(INNOCENT) == ({"completed"}, {("completed", False, 1)})
    assert [traces for traces in found if traces != clean] == []
    assert await Group.objects.acount() == before + INNOCENT
    assert not await Group.objects.filter(name="rubbish").aexists()
    assert statistics() == NOTHING
    assert (await web.get("/tasks/health/ready")).status_code == 200
    await eventually(lambda: len(body_threads()) <= THREADS, body_threads)

    def at_rest() -> bool:
        now = Used()
        return (
            now.attempts <= warm.attempts + 2  # the last ones, perhaps
            and now.tasks <= warm.tasks
            and now.objects < warm.objects + 20 * INNOCENT  # fewer than an attempt has
        )

    # The runtime has tasks of its own, for moments.
    await eventually(at_rest, lambda: vars(Used()), every=0.2)
