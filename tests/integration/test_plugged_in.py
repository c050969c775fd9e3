"""Mistakes in a project's logging, signals and observers: tasks run all the same."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group
from django.db import connection
from django.db.backends.signals import connection_created
from django.db.models import signals
from django.test import AsyncClient

from rail_async_tasks import BackendUnavailable, TaskHandle, safe_logging, task
from rail_async_tasks.hosting import process as host
from rail_async_tasks.ledger.writer import Writer
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.runtime import observers
from rail_async_tasks.runtime.attempts.threads import LoopThread
from rail_async_tasks.runtime.upkeep.lease import Lease
from tests.support.runtimes import Configure, in_memory, on_databases
from tests.support.timings import Timings
from tests.support.waiting import TIMEOUT, eventually, final

pytestmark = [pytest.mark.usefixtures("ends_cleanly"), pytest.mark.turns("store")]

on_sqlite = pytest.mark.parametrize("store", ["sqlite"], indirect=True)
on_postgres = pytest.mark.parametrize(
    "store", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True
)
BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "thread", "sync"])

runs: Counter[str] = Counter()


@pytest.fixture
async def plug(anyio_backend: Any) -> AsyncIterator[ExitStack]:
    """Takes the hooks out before the runtime is stopped."""
    with ExitStack() as stack:
        runs.clear()
        yield stack
    await asyncio.to_thread(safe_logging.flush, 10)


def count_task(name: str = "plug.count") -> Any:
    @task(name=name, max_retries=0)
    async def count() -> int:
        runs[name] += 1
        return 7

    return count


async def completes(handle: TaskHandle) -> None:
    snapshot = await final(handle)
    assert (snapshot.status, snapshot.result, snapshot.attempts) == ("completed", 7, 1)


# --- logging --------------------------------------------------------------------------------------

local = threading.local()


def request_id(record: logging.LogRecord) -> bool:
    """Written for request threads; raises in every other."""
    record.request_id = local.request_id
    return True


class Raising(logging.Handler):
    """A handler whose `emit` does not guard itself."""

    def emit(self, record: logging.LogRecord) -> None:
        raise OSError("the collector is away")


@contextmanager
def handled_by(handler: logging.Handler, level: int = logging.DEBUG) -> Iterator[logging.Handler]:
    logger = logging.getLogger("rail_async_tasks")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield handler
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def filtered() -> logging.Handler:
    handler = logging.StreamHandler()
    handler.addFilter(request_id)
    return handler


@sync_to_async
def end_other_connections() -> None:
    """Ends every connection to this database but the one that asks."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


@on_postgres
@pytest.mark.parametrize("make", [filtered, Raising])
async def test_a_lost_connection_and_a_logger_that_raises(
    configure: Configure, plug: ExitStack, make: Callable[[], logging.Handler]
) -> None:
    """Writers and lease report the loss, and live on: later tasks start and complete."""
    configure(lease_seconds=2.0)
    count = count_task()
    plug.enter_context(handled_by(make()))
    await completes(await count.aenqueue())
    runtime = host.current()
    assert runtime is not None
    await eventually(lambda: runtime.holding)
    for _ in range(3):
        await end_other_connections()
        await completes(await count.aenqueue())
    names = {thread.name for thread in threading.enumerate()}
    assert {"rail-tasks-intake", "rail-tasks-outcomes", "rail-tasks-lease"} <= names
    assert host.current() is runtime
    assert not runtime.draining


@in_memory
@BACKENDS
@pytest.mark.parametrize("make", [filtered, Raising])
async def test_a_logger_that_raises_hurts_no_task(
    configure: Configure, plug: ExitStack, backend: str, make: Callable[[], logging.Handler]
) -> None:
    """Each line of a task is lost, and none of its outcomes."""
    configure(
        backend=backend, log_task_start=True, log_task_complete=True,
        slow_task_threshold_seconds=0.0001,
    )  # fmt: skip
    plug.enter_context(handled_by(make()))
    count = count_task()
    for handle in [await count.aenqueue() for _ in range(5)]:
        await completes(handle)
    assert runs["plug.count"] == 5


class Enqueues(logging.Handler):
    """Starts a task for a record, and reads the database, in whichever thread that is."""

    def __init__(self, notify: Any) -> None:
        super().__init__(logging.WARNING)
        self.notify = notify
        self.threads: list[str] = []
        self.errors: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.threads.append(threading.current_thread().name)
        try:
            Group.objects.count()
            self.notify.enqueue()
        except BaseException as error:
            self.errors.append(error)
            raise


@on_postgres
async def test_a_handler_that_starts_tasks(configure: Configure, plug: ExitStack) -> None:
    """A writer reports a lost connection in a thread in which one may wait for the writer."""
    configure()
    count = count_task()
    await completes(await count.aenqueue())
    handler = Enqueues(count_task("plug.notify"))
    plug.enter_context(handled_by(handler, logging.WARNING))
    await end_other_connections()
    await completes(await count.aenqueue())
    await eventually(lambda: runs["plug.notify"])
    assert set(handler.threads) <= {"rail-tasks-log", "MainThread"}


@in_memory
async def test_a_loop_of_ours_survives_its_callbacks(plug: ExitStack) -> None:
    """One that raises, reported to a handler that raises too; and one that leaves the program."""
    logging.getLogger("asyncio").addHandler(raising := Raising())
    plug.callback(logging.getLogger("asyncio").removeHandler, raising)
    thread = LoopThread()

    def fall(error: BaseException) -> None:
        raise error

    async def answer() -> int:
        return 7

    for error in (ValueError("x"), SystemExit(3)):
        thread.loop.call_soon_threadsafe(fall, error)
        assert await asyncio.to_thread(thread.call, answer()) == 7
    await asyncio.to_thread(thread.close)
    assert thread.loop.is_closed()


# --- signals --------------------------------------------------------------------------------------


@contextmanager
def connected(signal: Any, receiver: Callable[..., None]) -> Iterator[None]:
    signal.connect(receiver, weak=False)
    try:
        yield
    finally:
        signal.disconnect(receiver)


def in_our_threads(name: str) -> bool:
    return threading.current_thread().name in {
        "rail-tasks-intake", "rail-tasks-outcomes", "rail-tasks-lease",
    }  # fmt: skip


@on_databases
@pytest.mark.parametrize("error", [KeyError, SystemExit, StopIteration])
async def test_a_receiver_of_new_connections_that_raises(
    configure: Configure, plug: ExitStack, error: type[BaseException], store: str
) -> None:
    """A connection that fails is tried again: no task is refused, failed or run twice for it."""
    configure(lease_seconds=2.0)
    failing: Counter[str] = Counter()

    def receive(**_: Any) -> None:
        name = threading.current_thread().name
        if in_our_threads(name) and failing[name] < 2:
            failing[name] += 1
            raise error("not a connection that I know")

    plug.enter_context(connected(connection_created, receive))
    count = count_task()
    await completes(await count.aenqueue())
    await eventually(lambda: failing["rail-tasks-lease"] == 2)
    assert failing["rail-tasks-intake"] == 2
    assert runs["plug.count"] == 1


@on_databases
async def test_a_receiver_in_a_writers_thread_cannot_wait_for_it(
    configure: Configure, plug: ExitStack
) -> None:
    """`enqueue()` is refused there with the reason, and the writer goes on."""
    configure(lease_seconds=2.0)
    other = count_task("plug.other")
    refusals: list[str] = []

    def receive(**_: Any) -> None:
        if in_our_threads(threading.current_thread().name):
            try:
                other.enqueue()
            except RuntimeError as error:
                refusals.append(str(error))

    plug.enter_context(connected(connection_created, receive))
    count = count_task()
    await completes(await count.aenqueue())
    await eventually(lambda: any("'rail-tasks-intake'" in it for it in refusals))
    assert all("which would wait for itself" in it for it in refusals)


@on_databases
async def test_receivers_for_every_model_do_not_run_in_our_threads(
    configure: Configure, plug: ExitStack
) -> None:
    """Audit packages connect to the saving of every model; ours are not theirs to refuse."""
    configure(lease_seconds=2.0)
    seen: list[Any] = []

    def receive(sender: Any, **_: Any) -> None:
        if in_our_threads(threading.current_thread().name):
            seen.append(sender)
            raise PermissionError("no user is known here")

    for signal in (signals.pre_save, signals.post_save, signals.pre_delete, signals.post_delete):
        plug.enter_context(connected(signal, receive))
    count = count_task()
    await completes(await count.aenqueue())
    runtime = host.current()
    assert runtime is not None
    await eventually(lambda: runtime.holding)
    await completes(await count.aenqueue())
    leases = host.ledger().leases()
    assert leases is not None

    def forget() -> None:
        threading.current_thread().name = "rail-tasks-lease"
        leases.forget()
        leases.reset()

    in_a_thread = threading.Thread(target=forget)
    in_a_thread.start()
    await asyncio.to_thread(in_a_thread.join)
    assert seen == []


# --- observers ------------------------------------------------------------------------------------


class Worst:
    """An observer of which every call raises what would end a loop."""

    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    def __getattr__(self, name: str) -> Any:
        def fall(*args: Any) -> None:
            raise self.error

        return fall


@in_memory
@BACKENDS
@pytest.mark.parametrize("error", [SystemExit, asyncio.CancelledError, StopIteration])
async def test_an_observer_that_raises_the_worst(
    configure: Configure,
    plug: ExitStack,
    monkeypatch: pytest.MonkeyPatch,
    backend: str,
    error: type[BaseException],
) -> None:
    """Neither the loop nor the attempt ends by it."""
    monkeypatch.setattr(observers, "_factories", {})
    observers.register(lambda settings: Worst(error))  # type: ignore[arg-type, return-value]
    configure(backend=backend)
    count = count_task()
    for handle in [await count.aenqueue() for _ in range(3)]:
        await completes(handle)


# --- the end of a thread, and starts that fail ----------------------------------------------------


def dies_once(monkeypatch: pytest.MonkeyPatch, owner: Any, method: str, thread: str) -> list[str]:
    """Has a method raise, the next time that the thread of that name calls it."""
    original, died = getattr(owner, method), []

    def call(self: Any, *args: Any) -> Any:
        if not died and threading.current_thread().name == thread:
            died.append(thread)
            raise MemoryError("worn out")
        return original(self, *args)

    monkeypatch.setattr(owner, method, call)
    return died


async def probes() -> tuple[int, int, str]:
    client = AsyncClient()
    live = await client.get("/tasks/health/live")
    ready = await client.get("/tasks/health/ready")
    return live.status_code, ready.status_code, ready.json()["checks"]["runtime"]


@on_databases
@pytest.mark.parametrize("backend", ["asyncio", "thread"])
@pytest.mark.parametrize("part", ["writer", "lease"])
async def test_a_thread_that_dies_ends_the_runtime_and_another_starts(
    configure: Configure,
    plug: ExitStack,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    backend: str,
    part: str,
) -> None:
    """Callers get an answer, the probes say it, and the next start has a new runtime."""
    configure(backend=backend, lease_seconds=2.0)
    count = count_task()
    await completes(await count.aenqueue())
    runtime = host.hosted()
    assert runtime is not None
    await eventually(lambda: runtime.holding)
    if part == "writer":
        dies_once(monkeypatch, Writer, "_write", "rail-tasks-intake")
        async with asyncio.timeout(TIMEOUT):
            with pytest.raises(BackendUnavailable):
                await count.aenqueue()
    else:
        dies_once(monkeypatch, Lease, "beat", "rail-tasks-lease")
    await eventually(lambda: not runtime.alive)
    assert (await probes())[:2] == (503, 503)
    await asyncio.to_thread(safe_logging.flush, 10)
    assert "has ended by an error" in caplog.text
    assert "The runtime broke" in caplog.text
    await completes(await count.aenqueue())
    assert host.hosted() is not runtime
    assert await probes() == (200, 200, "ok")

    def loops() -> int:
        return sum(it.name == "rail-tasks-loop" for it in threading.enumerate())

    await eventually(lambda: loops() == (backend == "thread"))


@on_sqlite
@pytest.mark.parametrize("backend", ["asyncio", "thread"])
async def test_what_ran_when_a_writer_died_is_not_lost(
    configure: Configure,
    plug: ExitStack,
    monkeypatch: pytest.MonkeyPatch,
    timings: Timings,
    backend: str,
) -> None:
    """Its outcome could not be stored: its row lapses with the lease, and it runs again."""
    configure(backend=backend, lease_seconds=1.0, drain_seconds=0)
    timings.set("end", flush_timeout=0.2)
    begun = threading.Event()

    @task(name="plug.wait")
    async def wait(info: Any) -> int:
        begun.set()
        if info.context.task.attempt == 1:
            await asyncio.Event().wait()
        return 7

    count = count_task()
    handle = await wait.aenqueue()
    await eventually(begun.is_set)
    runtime = host.hosted()
    assert runtime is not None
    dies_once(monkeypatch, Writer, "_write", "rail-tasks-intake")
    with pytest.raises(BackendUnavailable):
        await count.aenqueue()
    await eventually(lambda: not runtime.alive)
    await completes_after(await count.aenqueue())
    row = await final(handle)
    assert (row.status, row.result, row.attempts) == ("completed", 7, 2)


async def completes_after(handle: TaskHandle) -> None:
    assert (await final(handle)).status == "completed"


@on_sqlite
@pytest.mark.parametrize("backend", ["asyncio", "thread"])
@pytest.mark.parametrize("thread", ["rail-tasks-intake", "rail-tasks-lease", "rail-tasks-watchdog"])
async def test_a_start_that_fails_can_be_tried_again(
    configure: Configure,
    plug: ExitStack,
    monkeypatch: pytest.MonkeyPatch,
    backend: str,
    thread: str,
) -> None:
    """The caller gets the error, nothing of the failed start is left, and the next one works."""
    configure(backend=backend)
    count = count_task()
    before = set(threading.enumerate())

    def left() -> list[str]:
        """The runtime's threads of the start that failed; the log's serves all runtimes."""
        new = [it.name for it in threading.enumerate() if it not in before]
        return [it for it in new if it.startswith("rail-tasks-") and it != "rail-tasks-log"]

    start, failed = threading.Thread.start, []

    def fail_once(self: threading.Thread) -> None:
        if self.name == thread and not failed:
            failed.append(thread)
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", fail_once)
    async with asyncio.timeout(TIMEOUT):
        with pytest.raises(RuntimeError, match="can't start new thread"):
            await count.aenqueue()
        await eventually(lambda: not left(), left)
        await completes(await count.aenqueue())
    assert await TaskExecution.objects.acount() == 1
