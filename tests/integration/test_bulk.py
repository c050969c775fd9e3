"""`enqueue_many`: all starts or none, in one transaction; handles in the order of the calls."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from rail_async_tasks import (
    InvalidArguments,
    QueueFull,
    RateLimited,
    TasksDisabled,
    UnknownQueue,
    task,
)
from rail_async_tasks.hosting import process as host
from rail_async_tasks.models import TaskExecution

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


@pytest.mark.parametrize("running", BACKENDS, indirect=True)
def test_every_call_runs(running: None) -> None:
    """The handles stand in the order of the calls; a generator of calls will do."""
    handles = double.enqueue_many(it for it in calls(30))
    assert [handle.result(20) for handle in handles] == [2 * number for number in range(30)]


@pytest.mark.parametrize("running", BACKENDS, indirect=True)
async def test_every_call_runs_from_async_code(running: None) -> None:
    """The runtime starts in the caller's loop where none runs, as after `aenqueue`."""
    handles = await double.using(queue="low", priority=3).aenqueue_many(calls(30))
    results = [await handle.aresult(20) for handle in handles]
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
    assert [handle.result(20) for handle in handles] == [0, 2, 4, 6, 8]


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


async def test_misuse_says_what_to_write(settings: Any) -> None:
    """On an event loop, and with tasks switched off."""
    with pytest.raises(RuntimeError, match=r"await bulk\.double\.aenqueue_many"):
        double.enqueue_many(calls(1))
    use(settings, enabled=False)
    with pytest.raises(TasksDisabled):
        await double.aenqueue_many(calls(1))
