"""Dramatiq: an actor for each queue, a worker's settings, and messages that it must not run."""

from __future__ import annotations

import json
import logging
import pickle
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dramatiq
import pytest
from django.test import override_settings
from dramatiq.brokers.redis import RedisBroker
from dramatiq.brokers.stub import StubBroker
from dramatiq.errors import ConnectionClosed
from dramatiq.middleware import MiddlewareError
from dramatiq.worker import Worker

from devservers.redis import RedisServer
from rail_async_tasks.backends.dramatiq import ACTOR, MOST_LOOKED_AT, DramatiqBackend, not_on_redis
from rail_async_tasks.errors import ConfigurationError
from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.dispatch_records import Dispatch
from rail_async_tasks.workers.dramatiq import actor_of, declare, execute
from tests.backends.kinds import KINDS
from tests.backends.lone import BOOT_TIMEOUT, leave, lone_world, signal_all, until_it_is, until_said
from tests.backends.world import World
from tests.support.waiting import wait_for

# Real workers: they take a minute or so.
pytestmark = [pytest.mark.long, pytest.mark.redis]

KIND = KINDS["dramatiq"]
PLAIN = replace(
    KIND,
    worker=("-m", "dramatiq", "tests.backends.plain_dramatiq", "--processes=1", "--threads=4",
            "--queues", "low"),
    apps=(),
)  # fmt: skip


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Dramatiq's broker and encoder are the process's."""
    broker, encoder = dramatiq.broker.global_broker, dramatiq.get_encoder()
    yield
    dramatiq.broker.global_broker = broker
    dramatiq.set_encoder(encoder)


def set_broker(broker: dramatiq.Broker) -> Any:
    dramatiq.set_broker(broker)
    return broker


def queues(**queues: Any) -> override_settings:
    """Declares these queues, besides the usual ones."""
    return override_settings(
        RAIL_DJANGO_GRAPHQL={"task_settings": {"backend": "dramatiq", "queues": queues}}
    )


def test_each_queue_has_an_actor() -> None:
    """The highest priority goes first; retries and delays are rows, not Dramatiq's."""
    broker = set_broker(StubBroker())
    with queues(rush={"priority": 7}):
        declare()
    found = {it.queue_name: it for it in broker.actors.values()}
    assert set(found) >= {"high", "default", "low", "rush"}
    assert found["rush"].actor_name == f"{ACTOR}.rush"
    assert [found[name].priority for name in ("high", "rush", "default", "low")] == [-10, -7, 0, 10]
    assert found["low"].options == {
        "max_retries": 0, "time_limit": float("inf"), "max_age": None, "notify_shutdown": False,
    }  # fmt: skip
    declare()  # by two apps' tests, say
    assert len(broker.actors) == len(found)


def test_a_broker_with_no_middleware_will_do() -> None:
    """There are no options then that an actor could be given."""
    broker = set_broker(StubBroker(middleware=[]))
    assert actor_of(broker, "default").options == {}


def test_an_id_travels_and_nothing_else() -> None:
    """In JSON, in its queue."""
    broker = set_broker(StubBroker())
    dispatch = Dispatch(id=new_id(), name="x.y", queue="low", priority=0, number=1)
    DramatiqBackend().push_here([dispatch])
    (message,) = [json.loads(it) for it in broker.queues["low"].queue]
    assert (message["actor_name"], message["args"]) == (f"{ACTOR}.low", [str(dispatch.id)])
    assert (message["kwargs"], message["options"]) == ({}, {})


def test_what_does_not_work_is_an_error_of_the_checks() -> None:
    """And is neither sent nor served."""
    dramatiq.broker.global_broker = None
    dramatiq.set_encoder(dramatiq.PickleEncoder())
    backend = DramatiqBackend()
    with queues(**{"7th": {}, "x.DQ": {}}):
        found = list(backend.check())
        set_broker(StubBroker())
        backend.declare()
        declare()
    dramatiq.broker.global_broker = None
    assert {it.id for it in found} == {"rail_async_tasks.E019"}
    words = ("No Dramatiq broker", "PickleEncoder", "'7th'", "'x.DQ'")
    assert [word in it.msg for word, it in zip(words, found, strict=True)] == [True] * 4
    backend.declare()
    dispatch = Dispatch(id=new_id(), name="x.y", queue="low", priority=0, number=1)
    with pytest.raises(ConfigurationError, match="No Dramatiq broker"):
        backend.push_here([dispatch])
    broker = set_broker(StubBroker())
    declare()
    with pytest.raises(ConfigurationError, match="JSON only"):
        backend.push_here([dispatch])
    with pytest.raises(MiddlewareError, match="JSON only"):
        Worker(broker).start()


def test_no_call_waits_for_redis_for_ever() -> None:
    """Neither who enqueues nor a worker, unless the project says how long."""
    for broker, seconds in (
        (RedisBroker(url="redis://x"), 4),
        (RedisBroker(host="x"), 4),
        (RedisBroker(host="x", socket_timeout=9), 9),
    ):
        set_broker(broker)
        DramatiqBackend().declare()
        options = broker.client.connection_pool.connection_kwargs
        assert (options["socket_timeout"], options["socket_connect_timeout"]) == (seconds, 4)


def test_a_redis_that_does_not_answer_is_a_lost_connection() -> None:
    """Dramatiq connects anew then, and acknowledges once more."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        broker = set_broker(RedisBroker(host="127.0.0.1", port=port, socket_timeout=0.1))
        DramatiqBackend().declare()
        declare()
        with pytest.raises(ConnectionClosed):
            next(broker.consume("default"))
        broker.close()


def test_dispatches_that_redis_lacks_are_found(broker_server: RedisServer) -> None:
    """It knows waiting and taken messages. Other brokers, and a large one, cannot say."""
    broker_server.ask("FLUSHALL")
    broker = set_broker(RedisBroker(url=broker_server.url))
    sent = [
        Dispatch(id=new_id(), name="x.y", queue=queue, priority=0, number=1)
        for queue in ("low", "default", "low")
    ]
    assert not_on_redis(sent) == sent
    DramatiqBackend().push_here(sent)
    assert not_on_redis(sent) == []
    taken = next(broker.consume("default"))
    assert not_on_redis(sent) == []
    broker.do_ack("default", taken.options["redis_message_id"])
    assert not_on_redis(sent) == sent[1:2]
    broker_server.ask("HSET", "dramatiq:low.msgs", *map(str, range(2 * MOST_LOOKED_AT)))
    assert not_on_redis(sent) == ()
    broker.close()
    set_broker(StubBroker())
    assert not_on_redis(sent) == ()


@pytest.fixture
def lone(
    request: pytest.FixtureRequest, broker_server: RedisServer, postgres_server: Any,
    django_db_blocker: Any,
) -> Iterator[World]:  # fmt: skip
    kind, env = getattr(request, "param", (KIND, {}))
    with lone_world(kind, broker_server, postgres_server, django_db_blocker, **env) as world:
        yield world


def put(server: RedisServer, queue: str, data: bytes, number: int) -> None:
    """Sends it as any client of Redis may."""
    server.ask("HSET", f"dramatiq:{queue}.msgs", f"forged-{number}", data)
    server.ask("RPUSH", f"dramatiq:{queue}", f"forged-{number}")


class Bomb:
    """Makes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (open, (str(self.path), "w"))


@pytest.mark.postgres
def test_what_is_forged_neither_runs_nor_is_unpickled(
    lone: World, broker_server: RedisServer, tmp_path: Path
) -> None:
    """It is logged and dropped, and the worker goes on. Then all its processes get SIGTERM."""
    mark = tmp_path / "bang"
    broker_server.ask("FLUSHALL")

    def message(actor: str, *args: Any, **options: Any) -> bytes:
        return json.dumps(
            {"queue_name": "default", "actor_name": actor, "args": args, "kwargs": {},
             "options": {"redis_message_id": "forged-0", **options}, "message_id": "m",
             "message_timestamp": 1}
        ).encode()  # fmt: skip

    forged = (
        message("pathlib.Path.touch", str(mark)),
        message(f"{ACTOR}.default", "os.system", max_retries=9),
        message(f"{ACTOR}.default", str(mark), 2),
        pickle.dumps(Bomb(mark)),
    )
    for number, data in enumerate(forged):
        put(broker_server, "default", data, number)
    worker = lone.work()
    assert worker is not None
    until_said(worker, "undefined actor 'pathlib.Path.touch'", "is no task's id", "DecodeError")
    done = until_it_is(lone, leave("backends.add", a=1, b=2), "completed")
    assert (done.result, done.attempts) == (3, 1)
    assert not mark.exists()

    rows = [leave("backends.linger") for _ in range(3)]
    for row in rows:
        until_it_is(lone, row, "running")
    family = signal_all(worker)
    wait_for(lambda: worker.has_ended, worker.said, timeout=BOOT_TIMEOUT)
    assert [pid for pid in family if Path(f"/proc/{pid}").exists()] == []
    for row in rows:
        row.refresh_from_db()
        assert (row.status, row.attempts, row.retry_count, row.crashes) == ("retrying", 1, 0, 0)


@pytest.mark.postgres
@pytest.mark.parametrize(
    "lone",
    [(PLAIN, {"DJANGO_SETTINGS_MODULE": "tests.backends.plain_broker"})],
    indirect=True,
    ids=["plain"],
)
def test_a_plain_broker_and_one_queue(lone: World, broker_server: RedisServer) -> None:
    """Dramatiq's own command finds the actors; its `--queues` leaves the others to others."""
    broker_server.ask("FLUSHALL")
    lone.work()
    other = leave("backends.add", "high", a=1, b=1)
    until_it_is(lone, leave("backends.add", "low", a=1, b=2), "completed")
    wait_for(
        lambda: broker_server.ask("LLEN", "dramatiq:high") == 1, lone.said, timeout=BOOT_TIMEOUT
    )
    other.refresh_from_db()
    assert (other.status, other.attempts) == ("pending", 0)


def test_a_delivery_never_fails(caplog: pytest.LogCaptureFixture, monkeypatch: Any) -> None:
    """Dramatiq would keep what fails among its dead letters."""

    def fails(_: Any) -> None:
        raise RuntimeError("the database is away")

    monkeypatch.setattr("rail_async_tasks.workers.foreign.deliver", fails)
    with caplog.at_level(logging.ERROR):
        execute(str(new_id()))
    assert "the database is away" in caplog.text
