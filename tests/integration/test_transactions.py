"""Enqueueing inside the caller's transaction: one commit, and nothing starts before it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import Group
from django.db import connection, transaction

from rail_async_tasks import service
from rail_async_tasks.access import SYSTEM
from rail_async_tasks.declaration.definition import define
from rail_async_tasks.handle import TaskHandle
from rail_async_tasks.hosting import process as host
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.registry import registry
from rail_async_tasks.service import EnqueueOptions
from rail_async_tasks.snapshot import TaskSnapshot
from tests.support.waiting import TIMEOUT, wait_for

seen: list[Any] = []


def _look(group: str) -> int:
    """Returns how much of the starting transaction's work the body finds."""
    found = Group.objects.filter(name=group).count()
    seen.append(found)
    return found


async def _alook(group: str) -> int:
    return await sync_to_async(_look)(group)


LOOK = registry.register(define(_look, name="transactions.look", max_retries=0))
ALOOK = registry.register(define(_alook, name="transactions.alook", max_retries=0))


class RolledBack(Exception):
    """Leaves a transaction."""


@contextmanager
def rolled_back() -> Iterator[None]:
    """A transaction that fails at its end."""
    with suppress(RolledBack), transaction.atomic():
        yield
        raise RolledBack


@pytest.fixture(autouse=True)
def running(database: Any, settings: Any) -> Iterator[None]:
    """Tasks run in a loop thread of their own, on either database."""
    settings.RAIL_DJANGO_GRAPHQL = {"task_settings": {"backend": "asyncio"}}
    seen.clear()
    yield
    host.stop()


def start(definition: Any = LOOK, **options: Any) -> TaskSnapshot:
    return service.enqueue(definition, {"group": "g"}, EnqueueOptions(**options))


def start_through_async_to_sync() -> TaskSnapshot:
    return async_to_sync(service.aenqueue)(LOOK, {"group": "g"})


def result(snapshot: TaskSnapshot) -> Any:
    return TaskHandle(snapshot).result(TIMEOUT)


@pytest.mark.parametrize("begin", [start, start_through_async_to_sync])
def test_what_commits_starts(begin: Callable[[], TaskSnapshot]) -> None:
    """The body sees what its transaction wrote: it starts after the commit."""
    with transaction.atomic():
        snapshot = begin()
        assert snapshot.status == "pending"
        if connection.vendor == "postgresql":  # SQLite has one writer at a time
            # A later task that is not in a transaction runs meanwhile; this one does not.
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(_in_thread, lambda: result(start(ALOOK))).result(TIMEOUT) == 0
        assert service.get(SYSTEM, snapshot.id).status == "pending"
        Group.objects.create(name="g")
    assert result(snapshot) == 1
    assert seen[-1:] == [1]


@pytest.mark.parametrize("begin", [start, start_through_async_to_sync])
def test_what_rolls_back_never_was(
    begin: Callable[[], TaskSnapshot], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No row, no run, no news; the runtime goes on with others."""
    bus, published = host.bus(), list[TaskSnapshot]()
    publish = bus.publish
    monkeypatch.setattr(bus, "publish", lambda it: (published.append(it), publish(it)))
    with rolled_back():
        snapshot = begin()
    assert not TaskExecution.objects.filter(id=snapshot.id).exists()
    other = start()
    assert result(other) == 0
    assert seen == [0]
    # A result can be read from the commit on; its event follows when the loop hears of it.
    wait_for(lambda: any(it.is_final for it in published))
    assert {it.id for it in published} == {other.id}


def test_a_savepoint_that_rolls_back_takes_its_tasks_only() -> None:
    """Tasks of the outer transaction start."""
    with transaction.atomic():
        outer = start()
        with rolled_back():
            inner = start()
    assert result(outer) == 0
    assert list(TaskExecution.objects.values_list("id", flat=True)) == [outer.id]
    assert inner.id != outer.id
    assert seen == [0]


def test_threads_with_transactions_of_their_own() -> None:
    """Each thread's tasks follow its own commit or rollback."""
    barrier = threading.Barrier(4)

    def work(n: int) -> TaskSnapshot:
        barrier.wait(TIMEOUT)
        with rolled_back() if n % 2 else transaction.atomic():
            return start()

    with ThreadPoolExecutor(4) as pool:
        snapshots = list(pool.map(lambda n: _in_thread(lambda: work(n)), range(4)))
    assert [result(it) for it in snapshots[::2]] == [0, 0]
    stored = set(TaskExecution.objects.values_list("id", flat=True))
    assert stored == {it.id for it in snapshots[::2]}
    assert seen == [0, 0]


def test_a_unique_key_in_a_transaction() -> None:
    """The unfinished one comes back; the transaction goes on."""
    first = start(delay=3600, unique_key="k")
    with transaction.atomic():
        assert start(unique_key="k").id == first.id
        Group.objects.create(name="g")
    assert Group.objects.count() == 1
    assert TaskExecution.objects.count() == 1


def test_a_cancel_in_a_transaction_is_part_of_it() -> None:
    """Rolled back, the task is as it was; committed, it never runs."""
    snapshot = start(delay=3600)
    with rolled_back():
        service.cancel(SYSTEM, snapshot.id)
    assert service.get(SYSTEM, snapshot.id).status == "pending"
    with transaction.atomic():
        service.cancel(SYSTEM, snapshot.id)
    assert service.get(SYSTEM, snapshot.id).status == "cancelled"


def test_a_row_from_a_transaction_reads_as_it_was_returned() -> None:
    """Field for field."""
    with transaction.atomic():
        snapshot = start(delay=3600, owner_id="7", tenant_id="a", priority=3, queue="low")
    assert service.get(SYSTEM, snapshot.id) == snapshot


def _in_thread(call: Callable[[], Any]) -> Any:
    try:
        return call()
    finally:
        connection.close()
