"""What an `async def` body leaves on the connection of its ORM calls, where traffic never stops."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group, User
from django.db import connection, transaction
from django.db.backends.signals import connection_created
from django.db.models import Avg, CharField, Count, F, Func, Value
from django.db.models.functions import Coalesce, Length, Now, TruncDay

from rail_async_tasks import task
from rail_async_tasks.runtime.attempts import orm_threads
from tests.integration import rubbish
from tests.support.runtimes import Configure, on_databases
from tests.support.waiting import final

pytestmark = [pytest.mark.usefixtures("ends_cleanly"), on_databases]


@pytest.fixture
async def busy(configure: Configure, ends_cleanly: None) -> AsyncIterator[None]:
    """There is one lane, and a body in it, which has made an ORM call and goes on for ever."""
    configure(max_workers=1)
    started, release = asyncio.Event(), asyncio.Event()

    @task(name="o.busy")
    async def goes_on() -> None:
        await Group.objects.aexists()
        started.set()
        await release.wait()

    handle = await goes_on.aenqueue()
    await started.wait()
    yield
    release.set()
    assert (await final(handle)).status == "completed"


def a_variable_set_by_a_function() -> None:
    """By the ORM alone."""
    _call(Func(Value("search_path"), Value("nowhere"), Value(False), function="set_config"))


def a_lock_by_a_function() -> None:
    _call(Func(Value(42), function="pg_advisory_lock"))


def _call(function: Func) -> None:
    function.output_field = CharField()
    Group.objects.create(name=f"innocent {uuid4()}")
    assert list(Group.objects.annotate(it=function).values("it")[:1])


def rows_as_tuples_of_bytes() -> None:
    connection.ensure_connection()
    connection.connection.text_factory = bytes


def kinds(store: str) -> list[Callable[[], None]]:
    if store == "sqlite":
        return [*rubbish.THREAD, *rubbish.SQLITE, rows_as_tuples_of_bytes]
    return [
        *rubbish.THREAD, *rubbish.POSTGRES, a_variable_set_by_a_function, a_lock_by_a_function,
    ]  # fmt: skip


@pytest.mark.usefixtures("busy")
async def test_a_body_that_begins_later_finds_none_of_it(store: str) -> None:
    """Though the thread is in use all the time."""
    by_name = {leave.__name__: leave for leave in kinds(store)}

    @task(name="o.leaves", max_retries=0)
    async def leaves(name: str) -> None:
        await sync_to_async(by_name[name])()

    @task(name="o.looks", max_retries=0)
    async def looks() -> None:
        found.append(await sync_to_async(rubbish.traces)())
        assert isinstance((await Group.objects.alatest("pk")).name, str)

    clean = rubbish.untouched(connection.vendor)
    traces = {}
    for name in by_name:
        found: list[dict[str, Any]] = []
        ends = [await final(await leaves.aenqueue(name=name))]
        ends += [await final(await looks.aenqueue()) for _ in range(2)]
        traces[name] = [it.status for it in ends], found
    expected = (["completed"] * 3, [clean, clean])
    assert {name: it for name, it in traces.items() if it != expected} == {}


def by_the_driver() -> None:
    """Past Django, which sees nothing of it."""
    connection.ensure_connection()
    sql = {
        "sqlite": "PRAGMA query_only = ON",
        "postgresql": "SET default_transaction_read_only = on",
    }[connection.vendor]
    connection.connection.execute(sql)


@pytest.fixture
def no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy lane gives its connections back whenever a body has ended."""
    monkeypatch.setattr(orm_threads, "GIVE_BACK_AFTER", 0.0)


@pytest.mark.usefixtures("no_delay", "busy")
async def test_what_is_not_seen_ends_when_a_busy_lane_gives_its_connections_back() -> None:
    """Which it does every few seconds."""

    @task(name="o.leaves", max_retries=0)
    async def leaves() -> None:
        await sync_to_async(by_the_driver)()

    @task(name="o.writes", max_retries=0)
    async def writes() -> None:
        await Group.objects.acreate(name=f"innocent {uuid4()}")

    assert (await final(await leaves.aenqueue())).status == "completed"
    assert (await final(await writes.aenqueue())).status == "completed"


@pytest.fixture
def receiver() -> Iterator[None]:
    """The project sets up its connections."""

    def set_up(connection: Any, **kwargs: Any) -> None:
        with connection.cursor() as cursor:
            is_sqlite = connection.vendor == "sqlite"
            cursor.execute(
                "PRAGMA temp_store = 2" if is_sqlite else "SET application_name = 'shop'"
            )

    connection_created.connect(set_up)
    yield
    connection_created.disconnect(set_up)


def in_a_transaction() -> None:
    with transaction.atomic(), transaction.atomic():
        Group.objects.select_for_update().first()
        Group.objects.update_or_create(name="shared", defaults={"name": "shared"})


async def ordinary() -> None:
    """Calls as most bodies make them."""
    groups = Group.objects
    await groups.abulk_create([Group(name=str(uuid4())) for _ in range(3)])
    await groups.abulk_create([Group(name="shared")], ignore_conflicts=True)
    await groups.aget_or_create(name="shared")
    await groups.filter(name__icontains="x").exclude(pk__in=[1, 2]).aupdate(name=F("name"))
    await groups.annotate(n=Count("user"), size=Coalesce(Length("name"), 0)).order_by("n").afirst()
    await User.objects.annotate(day=TruncDay("date_joined")).filter(date_joined__lt=Now()).acount()
    await groups.aaggregate(it=Avg(Length("name")))
    await sync_to_async(in_a_transaction)()
    await groups.filter(name__startswith="none").adelete()
    assert [it async for it in groups.filter(name="shared").aiterator()]
    group = await groups.aget(name="shared")
    await group.permissions.aset([])


@pytest.mark.usefixtures("receiver")
async def test_bodies_that_leave_nothing_share_their_threads(configure: Configure) -> None:
    """So a process needs no more connections for them than `max_workers`."""
    configure(max_workers=2)
    threads = set()

    @task(name="o.ordinary", max_retries=0)
    async def calls() -> None:
        await ordinary()
        threads.add(await sync_to_async(threading.get_ident)())

    handles = [await calls.aenqueue() for _ in range(20)]
    assert {(it.status, it.error) for it in [await final(handle) for handle in handles]} == {
        ("completed", None)
    }
    assert len(threads) <= 2
