"""The Celery backend: its workers' pools, queues and ends, and what its broker may bring."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import pickle
import signal
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import msgspec
import pytest
from celery import Celery
from django.utils import timezone

from devservers.redis import RedisServer
from rail_async_tasks.backends import celery as backend
from rail_async_tasks.errors import ConfigurationError
from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.dispatch_records import Dispatch
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.workers import celery as worker_side
from rail_async_tasks.workers.celery_redis import ByPriority
from tests.backends.kinds import KINDS
from tests.backends.world import Worker, World
from tests.settings import database as database_config
from tests.support.databases import default_database, migrated_copy
from tests.support.waiting import eventually

# Real workers: they take a minute or so.
pytestmark = [pytest.mark.long, pytest.mark.redis]

KIND = KINDS["celery"]
PREFORK = ("--pool=prefork", "--concurrency=2")
# What a worker of a test's world gets to drain, and how much longer it may take to end: a process
# of the pool says goodbye for a second, by itself.
DRAIN, GOODBYE = 1.0, 4.0


# --- an app, in this process ---------------------------------------------------------------------


@pytest.fixture
def app(broker_server: RedisServer) -> Iterator[Celery]:
    """A project's app, whose broker is real."""
    with celery_app(broker_url=broker_server.url) as made:
        yield made


@contextmanager
def celery_app(**conf: Any) -> Iterator[Celery]:
    made = Celery("a project's", set_as_current=False)
    made.conf.update(conf)
    try:
        yield made
    finally:
        made.close()


def dispatch(queue: str = "default", number: int = 1) -> Dispatch:
    return Dispatch(new_id(), "app.task", queue, 0, number)


@pytest.fixture
def sender(app: Celery, monkeypatch: pytest.MonkeyPatch) -> backend.CeleryBackend:
    monkeypatch.setattr(backend, "find_app", lambda: app)
    return backend.CeleryBackend()


def test_a_message_carries_an_id(
    app: Celery, sender: backend.CeleryBackend, broker_server: RedisServer
) -> None:
    """In JSON, to the dispatch's queue, whatever the app's own routes and serializer say."""
    app.conf.update(
        task_routes={"*": {"queue": "elsewhere"}}, task_serializer="pickle",
        task_always_eager=True, task_create_missing_queues=False,
    )  # fmt: skip
    sent = dispatch("celery-ids", 3)
    sender.push_here([sent])
    message = json.loads(broker_server.ask("RPOP", "celery-ids"))
    assert message["content-type"] == "application/json"
    arguments, named, _ = json.loads(base64.b64decode(message["body"]))
    assert (arguments, named) == ([str(sent.id)], {})
    assert message["headers"]["task"] == "rail_async_tasks.execute"
    assert message["headers"]["id"] == f"{sent.id}-3"
    assert message["headers"]["ignore_result"] is True


def test_after_the_broker_has_lost_all(
    sender: backend.CeleryBackend, broker_server: RedisServer
) -> None:
    """Its bindings too: what is sent next arrives."""
    sender.push_here([dispatch("celery-lost")])
    broker_server.ask("FLUSHALL")
    sender.push_here([dispatch("celery-lost")])
    assert broker_server.ask("LLEN", "celery-lost") == 1


async def test_what_the_broker_has_lost(
    app: Celery, sender: backend.CeleryBackend, broker_server: RedisServer
) -> None:
    """It is distinct from ids that wait there, and from ids that a worker has taken."""
    waits, taken, lost = (dispatch("celery-some") for _ in range(3))
    again = msgspec.structs.replace(waits, number=12)
    await sender.push([taken])
    message = broker_server.ask("RPOP", "celery-some")
    broker_server.ask("HSET", "unacked", "tag", json.dumps([json.loads(message), "", "some"]))
    await sender.push([waits])
    assert await sender.missing([waits, taken, lost, again]) == [lost, again]
    broker_server.ask("FLUSHALL")
    assert await sender.missing([waits, taken]) == [waits, taken]
    await sender.aclose()


async def test_a_broker_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """A push raises at once; when it is back the next one arrives."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
    with celery_app(broker_url=f"redis://127.0.0.1:{port}/0") as app:
        monkeypatch.setattr(backend, "find_app", lambda: app)
        it = backend.CeleryBackend()
        began = time.monotonic()
        with pytest.raises(Exception, match="refused"):
            await it.push([dispatch()])
        assert time.monotonic() - began < 4
        await it.aclose()


async def test_a_broker_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A push gives up by itself within 5 s a connection: its thread is free for the next."""
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        celery_app(broker_url=f"redis://127.0.0.1:{silent.getsockname()[1]}/0") as app,
    ):
        monkeypatch.setattr(backend, "find_app", lambda: app)
        monkeypatch.setitem(
            backend._CONNECTION_OPTIONS, "redis",
            {**backend._CONNECTION_OPTIONS["redis"], "socket_timeout": 0.3},
        )  # fmt: skip
        it = backend.CeleryBackend()
        with pytest.raises(Exception, match=r"(?i)time"):
            await asyncio.wait_for(it.push([dispatch()]), 5)
        await it.aclose()
    assert backend._CONNECTION_OPTIONS["redis"]["socket_connect_timeout"] < 5


@pytest.mark.parametrize(
    ("accepted", "words"),
    [
        (["json"], []),
        (["application/json", "msgpack"], []),
        (["json", "pickle"], ["read application/x-python-serialize"]),
        (["json", "application/x-python-serialize"], ["read application/x-python-serialize"]),
        (["yaml"], ["read application/x-yaml", "do not read JSON"]),
    ],
)
def test_an_app_that_reads_what_runs_code(
    app: Celery, sender: backend.CeleryBackend, accepted: list[str], words: list[str]
) -> None:
    """An error of the checks; and its worker does not start, for Celery does not look at those."""
    app.conf.accept_content = accepted
    worker_side.declare()
    found = list(sender.check())
    assert [word in it.msg for word, it in zip(words, found, strict=True)] == [True] * len(words)
    assert {it.id for it in found} <= {"rail_async_tasks.E019"}
    if words:
        with pytest.raises(SystemExit, match=words[0]):
            app.Worker(pool="solo")


@pytest.mark.parametrize(
    "conf", [{"task_always_eager": True}, {"task_time_limit": 60}, {"task_soft_time_limit": 60}]
)
def test_what_an_app_asks_of_all_tasks(
    app: Celery, sender: backend.CeleryBackend, conf: dict[str, Any]
) -> None:
    """A warning where it does nothing here, or harm."""
    app.conf.update(conf)
    assert [it.id for it in sender.check()] == ["rail_async_tasks.W008"]


@pytest.mark.parametrize("pool", ["gevent", "eventlet"])
@pytest.mark.filterwarnings("ignore:You're running the worker with superuser privileges")
def test_green_pools_are_refused(app: Celery, sender: backend.CeleryBackend, pool: str) -> None:
    """When the worker starts, with what to do instead; Celery lets it through."""
    worker_side.declare()
    with pytest.raises(SystemExit, match="--pool=threads"):
        app.Worker(pool=pool)


def test_a_worker_serves_what_tasks_name(app: Celery) -> None:
    """Beside the app's own queues; what the project has set stays as it is."""
    app.conf.worker_prefetch_multiplier = 7
    app.conf.broker_transport_options = {"socket_timeout": 2.5}
    worker_side._prepare_worker(instance=SimpleNamespace(app=app), conf=app.conf)
    assert {"celery", "high", "default", "low"} <= set(app.amqp.queues.consume_from)
    assert app.conf.worker_prefetch_multiplier == 7
    assert app.conf.broker_connection_max_retries is None
    options = app.conf.broker_transport_options
    assert (options["socket_timeout"], options["socket_keepalive"]) == (2.5, True)
    app.amqp.queues.select(["low"])
    assert set(app.amqp.queues.consume_from) == {"low"}


def test_queues_are_asked_for_by_priority() -> None:
    """High first, always; those of one priority in turns."""
    order = ByPriority()
    order.update({"low", "celery", "default", "high"})
    first = order.consume(4)
    assert (first[0], first[3]) == ("high", "low")
    order.rotate(first[1])
    assert order.consume(4) == ["high", first[2], first[1], "low"]


def test_no_app(settings: Any) -> None:
    """It is said what is missing."""
    settings.RAIL_DJANGO_GRAPHQL = {"task_settings": {"backend": "celery"}}
    with pytest.raises(ConfigurationError, match="celery_app"):
        backend.find_app()


# --- real workers --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def project(
    broker_server: RedisServer, postgres_server: Any, django_db_blocker: Any
) -> Iterator[World]:
    """A project that nothing runs of, yet."""
    url = migrated_copy(postgres_server, "celery")
    env = {"TEST_DATABASE": "postgres", "TEST_DATABASE_URL": url}
    with (
        django_db_blocker.unblock(),
        default_database(database_config("postgres", url)),
        ExitStack() as stack,
    ):
        yield World(KIND, env, "", broker_server.url, stack, drain_seconds=DRAIN)


Start = Callable[..., Awaitable[Worker]]


@pytest.fixture
def work(project: World) -> Iterator[Start]:
    """Starts a worker that is ready when it is there; it ends with the test."""
    started: list[Worker] = []

    async def start(*more: str) -> Worker:
        worker = project.work("--loglevel=INFO", *more)
        assert worker is not None
        started.append(worker)
        await eventually(lambda: " ready." in worker.said(), worker.said)
        return worker

    yield start
    for worker in started:
        worker.stop()
    TaskExecution.objects.all().delete()


async def store(name: str, queue: str = "default", **columns: Any) -> TaskExecution:
    """Creates a row that waits; any live process sends it."""
    now = timezone.now()
    return await TaskExecution.objects.acreate(
        id=new_id(), name=f"backends.{name}", status="pending", queue=queue, created_at=now,
        updated_at=now, **{"arguments": {}, "max_retries": 0, **columns},
    )  # fmt: skip


async def reaches(row: TaskExecution, **columns: Any) -> TaskExecution:
    async def has_them() -> bool:
        await row.arefresh_from_db()
        return all(getattr(row, name) == value for name, value in columns.items())

    await eventually(has_them, lambda: (row.status, row.attempts, row.error), every=0.05)
    return row


async def ends_in(worker: Worker, seconds: float) -> None:
    try:
        await asyncio.to_thread(worker.wait, seconds)
    except subprocess.TimeoutExpired:
        pytest.fail(worker.said())


async def handed_back(*rows: TaskExecution) -> None:
    for row in rows:
        await row.arefresh_from_db()
        assert (row.status, row.attempts, row.retry_count) == ("retrying", 1, 0)


@pytest.mark.postgres
@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
async def test_sigterm_in_each_pool(work: Start, pool: str) -> None:
    """Running tasks are handed back after the drain, at no cost; short ones end in time."""
    worker = await work(f"--pool={pool}", "--concurrency=2")
    names = ["linger"] if pool == "solo" else ["linger", "linger_in_thread"]
    rows = [await store(name) for name in names]
    for row in rows:
        await reaches(row, status="running")
    worker.terminate()
    await ends_in(worker, DRAIN + GOODBYE)
    await handed_back(*rows)
    assert worker.alarms() == []


@pytest.mark.postgres
@pytest.mark.parametrize(("more", "fetched"), [((), 2), (("--prefetch-multiplier=3",), 6)])
async def test_what_waits_in_a_worker(
    work: Start, broker_server: RedisServer, more: tuple[str, ...], fetched: int
) -> None:
    """As many as run in it, unless its command says otherwise; the rest is for others to take."""
    await work("--pool=threads", "--concurrency=2", *more)
    rows = [await store("linger") for _ in range(10)]
    await eventually(lambda: broker_server.ask("HLEN", "unacked") == fetched)
    await eventually(lambda: broker_server.ask("LLEN", "default") == 10 - 2 - fetched)
    for row in rows[:2]:
        await reaches(row, status="running")


@pytest.mark.postgres
@pytest.mark.parametrize("to", ["everybody", "a child"])
async def test_sigterm_to_processes_of_the_pool(work: Start, to: str) -> None:
    """To all, as some supervisors do, or to one: its task goes on in another process."""
    worker = await work(*PREFORK)
    row = await reaches(await store("linger"), status="running")
    children = worker.family()[1:]
    if to == "everybody":
        for pid in worker.family():
            os.kill(pid, signal.SIGTERM)
        await ends_in(worker, DRAIN + GOODBYE)
        await handed_back(row)
    else:
        for pid in children:
            os.kill(pid, signal.SIGTERM)
        await reaches(row, status="completed", attempts=2, retry_count=0)
        assert row.result not in children
        assert row.result in worker.family()


@pytest.mark.postgres
@pytest.mark.parametrize("pool", ["prefork", "threads"])
async def test_a_cold_shutdown_does_not_wait(project: World, work: Start, pool: str) -> None:
    """Another Ctrl-C, and SIGQUIT: what runs is handed back at once."""
    project.task_settings["drain_seconds"] = 60
    try:
        worker = await work(f"--pool={pool}", "--concurrency=2")
        row = await reaches(await store("linger"), status="running")
        os.kill(worker.pid, signal.SIGINT)
        await eventually(lambda: "Draining: 1" in worker.said(), worker.said)
        os.kill(worker.pid, signal.SIGINT)
        await ends_in(worker, DRAIN + GOODBYE)
        await handed_back(row)
    finally:
        project.task_settings["drain_seconds"] = DRAIN


@pytest.mark.postgres
async def test_processes_that_are_replaced(work: Start) -> None:
    """Each ends in order: nothing is lost, and no runtime falls silent."""
    worker = await work("--pool=prefork", "--concurrency=1", "--max-tasks-per-child=2")
    rows = [await store("where") for _ in range(6)]
    for row in rows:
        await reaches(row, status="completed", attempts=1)
    assert len({row.result for row in rows}) >= 3
    assert worker.alarms() == []


@pytest.mark.postgres
async def test_flags_narrow_the_queues(work: Start) -> None:
    """-Q, and the rest waits for another worker."""
    narrow = await work("--pool=solo", "-Q", "low")
    other = await store("where", "high")
    await reaches(await store("where", "low"), status="completed")
    await reaches(other, status="pending", dispatches=1)
    assert ".> high" not in narrow.said()
    await work("--pool=solo")
    await reaches(other, status="completed", dispatches=1)


class Bomb:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self._path,)


@pytest.mark.postgres
async def test_forged_messages(work: Start, broker_server: RedisServer, tmp_path: Path) -> None:
    """A pickle, an import path, what is no id: logged and dropped, and the worker goes on."""
    worker = await work("--pool=threads")
    touched = tmp_path / "touched"

    def forge(body: bytes, kind: str, task: str) -> None:
        message = {
            "body": base64.b64encode(body).decode(), "content-type": kind,
            "content-encoding": "binary" if "python" in kind else "utf-8",
            "headers": {"lang": "py", "task": task, "id": str(new_id()), "argsrepr": "()"},
            "properties": {
                "body_encoding": "base64", "delivery_tag": str(new_id()), "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": "default"},
            },
        }  # fmt: skip
        broker_server.ask("LPUSH", "default", json.dumps(message))

    bomb = pickle.dumps(((Bomb(touched),), {}, {}))
    forge(bomb, "application/x-python-serialize", backend.TASK)
    forge(json.dumps([[str(touched)], {}, {}]).encode(), "application/json", "pathlib.Path.touch")
    for arguments, named in (
        (["os.system"], {}), ([], {}), ([1, 2], {"x": 3}), ([{"id": 1}], {}),
    ):  # fmt: skip
        forge(json.dumps([arguments, named, {}]).encode(), "application/json", backend.TASK)
    await eventually(lambda: worker.said().count("is no task's id") == 4, worker.said)
    said = worker.said()
    assert "Refusing to deserialize" in said
    assert "unregistered task of type 'pathlib.Path.touch'" in said
    assert not touched.exists()
    await reaches(await store("where"), status="completed")


class Proxy:
    """TCP to a server; what goes through it may fall silent, with every socket left open."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._silent: set[asyncio.StreamWriter] = set()
        self._open: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        for writer in self._open:
            writer.close()

    def fall_silent(self) -> None:
        """Cuts the connections that are open now; new ones go through."""
        self._silent |= self._open

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._target)
        self._open |= {writer, there_writer}
        for source, sink in ((reader, there_writer), (there_reader, writer)):
            pump = asyncio.ensure_future(self._pump(source, sink))
            self._pumps.add(pump)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            if sink not in self._silent:
                sink.write(data)
        if sink not in self._silent:
            sink.close()


@pytest.mark.postgres
@pytest.mark.parametrize("pool", ["threads", "prefork"])
async def test_a_connection_that_falls_silent(
    project: World, work: Start, broker_server: RedisServer, pool: str
) -> None:
    """It is found out, and the next task starts; what the silence has swallowed is sent again."""
    async with Proxy(broker_server.port) as proxy:
        there, project.env = project.env, {**project.env, "BACKENDS_REDIS": proxy.url}
        try:
            worker = await work(f"--pool={pool}", "--concurrency=2")
        finally:
            project.env = there
        await reaches(await store("where"), status="completed")
        proxy.fall_silent()
        began = time.monotonic()
        await reaches(await store("where"), status="completed", attempts=1)
        assert time.monotonic() - began < 15, worker.said()
        worker.stop()
