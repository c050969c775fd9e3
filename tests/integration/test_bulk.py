"""`enqueue_many`: all starts or none, in one transaction; handles in the order of the calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext

from rail_async_tasks import (
    BackendUnavailable,
    InvalidArguments,
    QueueFull,
    RateLimited,
    TasksDisabled,
    UnknownQueue,
    task,
)
from rail_async_tasks.hosting import process as host
from rail_async_tasks.ledger.orm import isolation
from rail_async_tasks.ledger.sql.batch import SqlBatch
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.service import bulk
from tests.support.waiting import TIMEOUT

BACKENDS = ("asyncio", "thread", "sync")


@task(name="bulk.double", max_retries=0)
async def double(number: int) -> int:
    return 2 * number


@task(name="bulk.unique", unique=True)
async def unique(number: int) -> int:
    return number


class RolledBack(Exception):
    """Leaves a transaction."""


@pytest.fixture(autouse=True)
def running(database: Any, settings: Any, request: pytest.FixtureRequest) -> Iterator[None]:
    """The backend of the test, on either database."""
    use(settings, getattr(request, "param", "asyncio"))
    yield
    host.stop()


def use(settings: Any, backend: str = "asyncio", **more: Any) -> None:
    settings.RAIL_DJANGO_GRAPHQL = {"task_settings": {"backend": backend, **more}}


def calls(count: int) -> list[dict[str, Any]]:
    return [{"number": number} for number in range(count)]


@pytest.mark.covering("database", "running")
@pytest.mark.parametrize("running", BACKENDS, indirect=True)
def test_every_call_runs(running: None) -> None:
    """The handles stand in the order of the calls; a generator of calls will do."""
    handles = double.enqueue_many(it for it in calls(30))
    assert [handle.result(TIMEOUT) for handle in handles] == [2 * number for number in range(30)]


@pytest.mark.covering("database", "running")
@pytest.mark.parametrize("running", BACKENDS, indirect=True)
async def test_every_call_runs_from_async_code(running: None) -> None:
    """The runtime starts in the caller's loop where none runs, as after `aenqueue`."""
    handles = await double.using(queue="low", priority=3).aenqueue_many(calls(30))
    results = [await handle.aresult(TIMEOUT) for handle in handles]
    assert results == [2 * number for number in range(30)]
    assert {(it.snapshot.queue, it.snapshot.priority) for it in handles} == {("low", 3)}
    runtime = host.current()
    if runtime is not None:
        own = runtime.loop is asyncio.get_running_loop()
        assert own is (runtime.settings.backend == "asyncio")
    await host.astop()


def test_none_is_stored_where_one_is_wrong() -> None:
    """The error names the call, by its number from 0."""
    for wrong in ({"number": "x"}, {}, {"number": 1, "more": 2}, "number"):
        with pytest.raises(InvalidArguments, match=r"Call 2 of enqueue_many\(\)"):
            double.enqueue_many([*calls(2), wrong, *calls(2)])  # type: ignore[list-item]
    with pytest.raises(UnknownQueue):
        double.using(queue="nowhere").enqueue_many(calls(2))
    assert not TaskExecution.objects.exists()


@pytest.mark.parametrize("count", [3, 4])
def test_the_limit_on_waiting_tasks_counts_all_of_them(settings: Any, count: int) -> None:
    """Three fit, and then none; four do not, and none of them is stored."""
    use(settings, max_pending=3)
    later = double.using(delay=60)
    if count == 3:
        later.enqueue_many(calls(3))
    with pytest.raises(QueueFull):
        later.enqueue_many(calls(count))
    assert TaskExecution.objects.count() == (3 if count == 3 else 0)
    later.enqueue_many([])


@pytest.mark.parametrize("owner", ["7"])
def test_the_rate_counts_all_of_them(settings: Any, owner: str) -> None:
    """Two of three have their place; four more have not, and none is stored."""
    use(settings, rate_limit="3/h")
    mine = double.using(owner=owner)
    mine.enqueue_many(calls(2))
    for count in (2, 4):
        with pytest.raises(RateLimited):
            mine.enqueue_many(calls(count))
    assert TaskExecution.objects.count() == 2
    mine.enqueue_many(calls(1))


def test_it_is_part_of_the_callers_transaction() -> None:
    """Rolled back with it; nothing starts before the commit."""
    with suppress(RolledBack), transaction.atomic():
        double.enqueue_many(calls(5))
        raise RolledBack
    assert not TaskExecution.objects.exists()
    with transaction.atomic():
        handles = double.enqueue_many(calls(5))
        assert {handle.refresh().status for handle in handles} == {"pending"}
    assert [handle.result(TIMEOUT) for handle in handles] == [0, 2, 4, 6, 8]


def test_a_key_that_is_taken_gives_the_task_that_has_it() -> None:
    """One from before, and one of the same call."""
    later = unique.using(delay=60)
    first = later.enqueue(number=0)
    handles = later.enqueue_many([{"number": 0}, {"number": 1}, {"number": 1}])
    assert [handle.id for handle in handles] == [first.id, handles[1].id, handles[1].id]
    assert TaskExecution.objects.count() == 2


def test_many_take_few_statements() -> None:
    """And one transaction."""
    with CaptureQueriesContext(
        connection,
    ) as queries:
        double.using(delay=60).enqueue_many(calls(3000))
    inserts = [it["sql"] for it in queries if "INSERT" in it["sql"]]
    assert len(inserts) == 3
    assert TaskExecution.objects.count() == 3000


def test_calls_are_read_as_their_rows_are_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a generator no more is in memory than two pages, and a snapshot of each task."""
    monkeypatch.setattr(bulk, "PAGE", 10)
    stored = []

    def read() -> Iterator[dict[str, Any]]:
        for number in range(65):
            if number % 10 == 0:
                stored.append(number - TaskExecution.objects.count())
            yield {"number": number}

    handles = double.using(delay=60).enqueue_many(read())
    assert max(stored) <= 20
    assert [it.id for it in handles] == sorted(it.id for it in handles)


@pytest.mark.parametrize("limit", [{"max_pending": 25}, {"rate_limit": "25/h"}])
def test_the_limits_count_page_by_page(
    settings: Any, monkeypatch: pytest.MonkeyPatch, limit: dict[str, Any]
) -> None:
    """What was stored before the error goes with it, and counts no more."""
    monkeypatch.setattr(bulk, "PAGE", 10)
    use(settings, **limit)
    mine = double.using(owner="7", delay=60)
    with pytest.raises((QueueFull, RateLimited)):
        mine.enqueue_many(calls(26))
    assert not TaskExecution.objects.exists()
    mine.enqueue_many(calls(25))
    with pytest.raises((QueueFull, RateLimited)):
        mine.enqueue_many(calls(1))


def test_a_wrong_call_past_the_first_page_stores_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has its number among all calls."""
    monkeypatch.setattr(bulk, "PAGE", 10)
    with pytest.raises(InvalidArguments, match=r"Call 25 of enqueue_many\(\)"):
        double.enqueue_many([*calls(25), {"number": "x"}])
    assert not TaskExecution.objects.exists()


@pytest.mark.parametrize("kind", [list, iter])
def test_a_list_is_read_again_after_a_serialization_failure(
    monkeypatch: pytest.MonkeyPatch, kind: Callable[[Any], Any]
) -> None:
    """At REPEATABLE READ and above. A generator can't be: its caller gets an error that says so."""
    monkeypatch.setattr(bulk, "PAGE", 10)
    stored: list[int] = []
    failures = [OperationalError("could not serialize access")]
    create = SqlBatch.create
    monkeypatch.setattr(isolation, "is_serialization_failure", lambda error: True)

    def fail_once(self: SqlBatch, cursor: Any, rows: Any) -> Any:
        if failures and stored:
            raise failures.pop()
        stored.append(len(rows))
        return create(self, cursor, rows)

    monkeypatch.setattr(SqlBatch, "create", fail_once)
    start = partial(double.using(delay=60).enqueue_many, kind(calls(25)))
    if kind is list:
        handles = start()
        assert {it.id for it in handles} == {it.id for it in TaskExecution.objects.all()}
        assert len(handles) == 25
    else:
        with pytest.raises(BackendUnavailable, match="Pass a list"):
            start()
        assert not TaskExecution.objects.exists()
    assert failures == []


async def test_misuse_says_what_to_write(settings: Any) -> None:
    """On an event loop, and with tasks switched off."""
    with pytest.raises(RuntimeError, match=r"await bulk\.double\.aenqueue_many"):
        double.enqueue_many(calls(1))
    use(settings, enabled=False)
    with pytest.raises(TasksDisabled):
        await double.aenqueue_many(calls(1))
