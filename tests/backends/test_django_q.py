"""Django-Q: the choice of a cluster, its settings, and packages that it must not run."""

from __future__ import annotations

import base64
import json
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from django.conf import settings as django_settings
from django.core.signing import TimestampSigner
from django.db import connection
from django.test import override_settings

from devservers.redis import RedisServer
from rail_async_tasks.backends import django_q
from rail_async_tasks.backends.django_q import (
    EXECUTE,
    DjangoQBackend,
    _bound_waits,
    cluster_of,
)
from rail_async_tasks.declaration.definition import define
from rail_async_tasks.registry import Registry
from rail_async_tasks.workers.django_q import _outlast_outages
from tests.backends.kinds import KINDS
from tests.backends.lone import BOOT_TIMEOUT, leave, lone_world, signal_all, until_it_is, until_said
from tests.backends.world import World
from tests.support.waiting import wait_for

# Real workers: they take a minute or so.
pytestmark = [pytest.mark.long, pytest.mark.redis]

KIND = KINDS["django_q"]


@pytest.mark.parametrize(
    ("configured", "queue", "cluster"),
    [
        (None, "high", "default"),
        ({"name": "shop"}, "high", "shop"),
        ({"name": "shop", "cluster_name": "main"}, "high", "main"),
        ({"name": "shop", "ALT_CLUSTERS": {"high": {}}}, "high", "high"),
        ({"name": "shop", "ALT_CLUSTERS": {"high": {}}}, "low", "shop"),
        ({"name": "shop", "ALT_CLUSTERS": None}, "low", "shop"),
    ],
)
def test_a_queue_goes_to_the_cluster_of_its_name(
    configured: dict[str, Any] | None, queue: str, cluster: str
) -> None:
    """If the project has one; else to its only one, which serves every queue."""
    with override_settings(Q_CLUSTER=configured):
        assert cluster_of(queue) == cluster


def test_what_does_not_work_is_an_error_of_the_checks() -> None:
    """A cluster that has no tables, and one that runs nothing."""
    with override_settings(Q_CLUSTER={"sync": True}):
        found = [it for it in DjangoQBackend().check() if it.id == "rail_async_tasks.E019"]
    assert ["INSTALLED_APPS" in found[0].msg, '"sync"' in found[1].msg] == [True, True]


@pytest.mark.parametrize(
    ("clusters", "named"),
    [({}, ["high, low"]), ({"high": {}}, ["low"]), ({"high": {}, "low": {}}, [])],
)
def test_queues_that_share_a_cluster_are_a_warning(
    monkeypatch: pytest.MonkeyPatch, clusters: dict[str, Any], named: list[str]
) -> None:
    """Their priorities do nothing there; a cluster of its own is what helps."""
    declared = Registry()
    for queue in ("high", "low", "default"):
        declared.register(define(_work, name=f"at.{queue}", queue=queue))
    monkeypatch.setattr(django_q, "registry", declared)
    with override_settings(Q_CLUSTER={"name": "default", "ALT_CLUSTERS": clusters}):
        found = [it for it in DjangoQBackend().check() if it.id == "rail_async_tasks.W008"]
    assert [it.msg.partition("queues ")[2].partition(" have")[0] for it in found] == named


async def _work() -> None:
    """Nothing."""


@pytest.mark.parametrize(
    ("given", "becomes"),
    [
        ({}, {"socket_timeout": 4, "socket_connect_timeout": 4}),
        (
            {"host": "x", "socket_timeout": 9},
            {"host": "x", "socket_timeout": 9, "socket_connect_timeout": 4},
        ),
        ("redis://:a%20b@x:1/2", "redis://:a%20b@x:1/2?socket_timeout=4&socket_connect_timeout=4"),
        (
            "unix:///a?db=1&socket_timeout=9",
            "unix:///a?db=1&socket_timeout=9&socket_connect_timeout=4",
        ),
    ],
)
def test_no_call_waits_for_redis_for_ever(
    monkeypatch: pytest.MonkeyPatch, given: Any, becomes: Any
) -> None:
    """Neither who enqueues nor a cluster, unless the project says how long."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Django-Q thinks of settings that are not there
        from django_q.conf import Conf

    monkeypatch.setattr(Conf, "REDIS", given)
    _bound_waits()
    assert becomes == Conf.REDIS
    if isinstance(becomes, str):
        assert redis.from_url(becomes).connection_pool.connection_kwargs["socket_timeout"] > 1


def test_a_cluster_outlasts_its_broker(caplog: pytest.LogCaptureFixture) -> None:
    """A failed request is made again, which is logged once; its result is taken."""
    answers: Iterator[Any] = iter([ConnectionError("away"), OSError("away"), None, ["it"]])

    def dequeue() -> Any:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    sentinel = SimpleNamespace(broker=SimpleNamespace(dequeue=dequeue))
    _outlast_outages(sentinel)
    _outlast_outages(sentinel)  # of a process that is started in place of one that was killed
    assert [sentinel.broker.dequeue() for _ in range(4)] == [None, None, None, ["it"]]
    assert [it.getMessage().rpartition(" cluster ")[2][:40] for it in caplog.records] == [
        "does not answer: away. It is tried again", "answers again after 2.0 s",
    ]  # fmt: skip


class Bomb:
    """Makes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (open, (str(self.path), "w"))


def signed(key: str, package: bytes) -> str:
    """As Django-Q signs it."""
    text = base64.urlsafe_b64encode(package).rstrip(b"=").decode()
    return TimestampSigner(key=key, salt="default").sign(text)


@pytest.fixture
def lone(
    request: pytest.FixtureRequest, broker_server: RedisServer, postgres_server: Any,
    django_db_blocker: Any,
) -> Iterator[World]:  # fmt: skip
    env = getattr(request, "param", {})
    with lone_world(KIND, broker_server, postgres_server, django_db_blocker, **env) as world:
        yield world


@pytest.mark.postgres
def test_what_is_forged_neither_runs_nor_is_unpickled(
    lone: World, broker_server: RedisServer, tmp_path: Path
) -> None:
    """It is logged and dropped, and the cluster goes on. Then all its processes get SIGTERM."""
    mark = tmp_path / "bang"
    bomb = pickle.dumps(Bomb(mark))
    call = pickle.dumps(
        {"id": "1", "name": "1", "func": "pathlib.Path.touch", "args": (mark,), "kwargs": {}}
    )
    foreign = [signed("another key", package) for package in (bomb, call)]
    own = signed(
        django_settings.SECRET_KEY,
        pickle.dumps(
            {
                "id": "2",
                "name": "2",
                "func": EXECUTE,
                "args": ("no id",),
                "kwargs": {},
                "save": False,
            }
        ),
    )
    broker_server.ask("FLUSHALL")
    for package in (bomb, base64.b64encode(bomb), call, *foreign, b"", b"not:a:package", own):
        broker_server.ask("RPUSH", "django_q:default:q", package)
    worker = lone.work()
    assert worker is not None
    done = until_it_is(lone, leave("backends.add", "low", a=1, b=2), "completed")
    assert (done.result, done.attempts) == (3, 1)
    wait_for(
        lambda: broker_server.ask("LLEN", "django_q:default:q") == 0,
        worker.said,
        timeout=BOOT_TIMEOUT,
    )
    until_said(worker, 'No ":" found', "does not match", "is no task's id")
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
    "lone", [{"DJANGO_SETTINGS_MODULE": "tests.backends.two_clusters"}], indirect=True
)
def test_two_clusters_in_the_database(lone: World) -> None:
    """Each serves its queues. What Django-Q sends again and what it calls too slow runs once."""
    env = {**os.environ, **lone.env, "ACCEPTANCE_TASK_SETTINGS": json.dumps(lone.task_settings)}
    subprocess.run([sys.executable, "-m", "django", "migrate", "-v0"], env=env, check=True)
    lone.env["Q_CLUSTER_NAME"] = "low"
    lone.work()
    other = leave("backends.add", "high", a=1, b=1)
    slow = leave("backends.wait", "low", seconds=4.5)
    until_it_is(lone, slow, "completed")
    other.refresh_from_db()
    assert (slow.attempts, other.status, other.attempts) == (1, "pending", 0)
    wait_for(lambda: packages() == [("main", 1)], lone.said, timeout=BOOT_TIMEOUT)
    del lone.env["Q_CLUSTER_NAME"]
    lone.work()
    until_it_is(lone, other, "completed")
    wait_for(lambda: packages() == [], lone.said, timeout=BOOT_TIMEOUT)


def packages() -> list[Any]:
    """How many wait, or are at work, by cluster."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT key, count(*) FROM django_q_ormq GROUP BY key")
        return list(cursor.fetchall())
