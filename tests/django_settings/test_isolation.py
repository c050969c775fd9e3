"""`OPTIONS={"isolation_level": ...}`, and a database whose own default is as strict."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from asgiref.sync import sync_to_async
from django.db import connection, connections, transaction
from django.db.utils import OperationalError
from psycopg import IsolationLevel

from rail_async_tasks import Retry, service, task
from rail_async_tasks.access import SYSTEM
from rail_async_tasks.db_connections import DriverCursor, dedicated_connection
from rail_async_tasks.hosting import process as host
from rail_async_tasks.ledger.orm.ledger import OrmLedger
from rail_async_tasks.models import TaskExecution
from tests.django_settings.conftest import Configure
from tests.support.databases import forget_connections
from tests.support.ledgers import new_execution
from tests.support.waiting import TIMEOUT, wait_for

ON_POSTGRES = pytest.mark.parametrize(
    "database", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True
)
on_mariadb = pytest.param("mariadb", marks=pytest.mark.mariadb)
ON_MARIADB = pytest.mark.parametrize("database", [on_mariadb], indirect=True)

LEVELS: dict[str, dict[str, Any]] = {
    "repeatable read": {"isolation_level": IsolationLevel.REPEATABLE_READ},
    "serializable": {"isolation_level": IsolationLevel.SERIALIZABLE},
    "by the server": {"options": "-c default_transaction_isolation=serializable"},
}


@task(name="isolation.climb", max_retries=1)
async def climb(info: Any) -> str:
    """Report progress, fall once, and get there."""
    for percent in (10, 60):
        info.context.task.update_progress(percent)
        await asyncio.sleep(0)
    if info.context.task.attempt == 1:
        raise Retry(delay=0)
    return "top"


@pytest.fixture(params=LEVELS)
def level(database: object, request: pytest.FixtureRequest) -> Iterator[str]:
    """The isolation level of the project's connections."""
    config = connections.settings["default"]
    before, config["OPTIONS"] = config["OPTIONS"], LEVELS[request.param]
    forget_connections()
    yield request.param
    config["OPTIONS"] = before


@pytest.fixture
def ledger(level: str) -> OrmLedger:
    return OrmLedger("default")


def elsewhere(do: Callable[[], Any]) -> Any:
    """Returns its value, computed in another thread and on its connection."""

    def in_thread() -> Any:
        try:
            return do()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(in_thread).result()


def begin() -> None:
    """Takes the snapshot that a transaction reads from."""
    TaskExecution.objects.count()


def keyed() -> Any:
    return new_execution(unique_key="k", delay=3600.0)


@ON_POSTGRES
def test_a_key_that_was_taken_before_is_answered(ledger: OrmLedger) -> None:
    """With the task that has it, as at READ COMMITTED."""
    first = elsewhere(lambda: ledger.create_here(keyed()))
    assert first.existing is None
    with transaction.atomic():
        begin()
        again = ledger.create_here(keyed())
    assert again.existing is not None
    assert ledger.create_here(keyed()).existing == again.existing


@ON_POSTGRES
def test_a_key_that_was_taken_meanwhile_is_answered_too(ledger: OrmLedger, level: str) -> None:
    """The task is one that the transaction cannot see; it goes on, and its own work is kept."""
    with transaction.atomic():
        begin()
        new = keyed()
        elsewhere(lambda: ledger.create_here(new))
        assert not TaskExecution.objects.filter(id=new.id).exists()
        again = ledger.create_here(keyed())
        assert again.existing is not None
        assert again.existing.id == new.id
        mine = ledger.create_here(new_execution(delay=3600.0))
        assert mine.existing is None
    assert TaskExecution.objects.count() == 2


@ON_POSTGRES
def test_the_last_connection_of_a_pool_is_enough(database: object) -> None:
    """The task that the transaction cannot see is read on a connection beside the pool."""
    config = connections.settings["default"]
    before = config["OPTIONS"]
    pool = {"min_size": 0, "max_size": 1, "timeout": TIMEOUT}
    config["OPTIONS"] = {"isolation_level": IsolationLevel.REPEATABLE_READ, "pool": pool}
    forget_connections()
    ledger, new = OrmLedger("default"), keyed()

    def take() -> None:
        dedicated_connection("default")
        ledger.create_here(new)

    try:
        with transaction.atomic():
            begin()
            elsewhere(take)
            again = ledger.create_here(keyed())
        assert again.existing is not None
        assert again.existing.id == new.id
    finally:
        connection.close()
        connection.close_pool()
        config["OPTIONS"] = before
        forget_connections()


@ON_MARIADB
def test_on_mariadb_such_a_key_is_answered_too(database: object) -> None:
    """Its REPEATABLE READ hides what was committed meanwhile from the same check of the key."""
    config = connections.settings["default"]
    before, config["OPTIONS"] = config["OPTIONS"], {"isolation_level": "repeatable read"}
    forget_connections()
    ledger, new = OrmLedger("default"), keyed()
    try:
        with transaction.atomic():
            begin()
            elsewhere(lambda: ledger.create_here(new))
            again = ledger.create_here(keyed())
        assert again.existing is not None
        assert again.existing.id == new.id
    finally:
        config["OPTIONS"] = before


@ON_POSTGRES
def test_a_key_that_was_freed_meanwhile_is_free(ledger: OrmLedger, level: str) -> None:
    """The transaction still sees the task that had it. At SERIALIZABLE PostgreSQL refuses that, by
    its usual error: none of the two transactions can have come first.
    """
    first = keyed()
    ledger.create_here(first)

    def take() -> Any:
        with transaction.atomic():
            begin()
            elsewhere(lambda: ledger.cancel(first.id, None))
            return ledger.create_here(keyed()).existing

    if level == "repeatable read":
        assert take() is None
    else:
        with pytest.raises(OperationalError, match="could not serialize"):
            take()


@ON_POSTGRES
def test_a_change_that_waited_for_another_is_repeated(ledger: OrmLedger) -> None:
    """A cancel that meets a change of the same row is refused by the database, and made anew."""
    new = new_execution(delay=3600.0)
    ledger.create_here(new)
    with ThreadPoolExecutor(1) as thread:
        with transaction.atomic():
            TaskExecution.objects.filter(id=new.id).update(progress_message="held")
            cancelling = thread.submit(cancel_and_close, ledger, new.id)
            until_something_waits_for_a_lock()
        cancelled = cancelling.result(TIMEOUT)
    assert cancelled.changed
    assert (cancelled.snapshot.status, cancelled.snapshot.progress_message) == ("cancelled", "held")


@ON_POSTGRES
def test_in_a_transaction_the_refusal_is_the_callers(ledger: OrmLedger) -> None:
    """Only all of it can be repeated; the error is Django's usual one, which retries know."""
    new = new_execution(delay=3600.0)
    ledger.create_here(new)

    def cancel() -> None:
        with transaction.atomic():
            begin()
            elsewhere(lambda: TaskExecution.objects.filter(id=new.id).update(step=1))
            ledger.cancel(new.id, None)

    with pytest.raises(OperationalError, match="could not serialize"):
        cancel()
    assert ledger.cancel(new.id, None) is not None


def cancel_and_close(ledger: OrmLedger, execution_id: UUID) -> Any:
    try:
        return ledger.cancel(execution_id, None)
    finally:
        connections.close_all()


def until_something_waits_for_a_lock() -> None:
    waiting = """SELECT count(*) FROM pg_stat_activity
        WHERE wait_event_type = 'Lock' AND datname = current_database()"""

    def waits() -> bool:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_stat_clear_snapshot()")
            cursor.execute(waiting)
            return bool(cursor.fetchone() != (0,))

    wait_for(waits, "something that waits for a lock")


@ON_POSTGRES
def test_the_ledgers_own_connections_read_what_stands(level: str) -> None:
    """At READ COMMITTED, in a transaction of the ORM's, in the driver's, and outside of both."""
    seen = set()

    def look() -> None:
        own = dedicated_connection("default")
        driver = DriverCursor(own)

        def note() -> None:
            driver.execute("SHOW transaction_isolation")
            seen.add(driver.fetchone())

        note()
        with driver.transaction():
            note()
        with transaction.atomic():
            note()

    elsewhere(look)
    assert seen == {("read committed",)}
    with transaction.atomic(), connection.cursor() as cursor:  # the project's is as it has set it
        cursor.execute("SHOW transaction_isolation")
        assert cursor.fetchone() == (level if level == "repeatable read" else "serializable",)


@ON_POSTGRES
@pytest.mark.usefixtures("running")
async def test_tasks_run_to_their_end(level: str, configure: Configure) -> None:
    """Many at once, with progress and a retry each, while others are cancelled."""
    configure(backend="asyncio", retry_delay=0, progress_interval_seconds=0.001)
    handles = [await climb.aenqueue() for _ in range(20)]
    delayed = [await climb.using(delay=3600).aenqueue() for _ in range(20)]
    await asyncio.gather(*(service.acancel(SYSTEM, it.id) for it in delayed))
    for handle in handles:
        assert await handle.aresult(TIMEOUT) == "top"
    keyed = climb.using(unique_key="k", delay=3600)
    ids = {(await keyed.aenqueue()).id for _ in range(3)}
    assert len(ids) == 1
    await sync_to_async(host.ledger().cancel)(ids.pop(), None)
