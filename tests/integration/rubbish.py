"""Bodies that leave something behind: in their task, on the loop, in their thread.

`DEADLINE` is when timers among it fire, in seconds. `kept` holds what a body keeps a reference to.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import warnings
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any
from uuid import uuid4

import anyio
from django.conf import settings
from django.contrib.auth.models import Group
from django.db import DatabaseError, connection, transaction
from django.utils import timezone, translation

DEADLINE = 0.03

kept: list[Any] = []
variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="clean")


class Rubbish(Exception):
    """The error that callbacks and children raise which outlive their body."""


def own_task() -> asyncio.Task[Any]:
    running = asyncio.current_task()
    assert running is not None
    return running


def loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


def _raise() -> None:
    raise Rubbish


async def _raise_soon() -> None:
    await asyncio.sleep(DEADLINE / 2)
    raise Rubbish


async def _stream(scope: Callable[[], Any]) -> AsyncGenerator[int, None]:
    with scope():
        for number in range(3):
            yield number


async def _stream_with_timeout() -> AsyncGenerator[int, None]:
    async with asyncio.timeout(DEADLINE):
        for number in range(3):
            yield number


async def _stream_that_goes_on() -> AsyncGenerator[int, None]:
    while True:
        try:
            yield 1
        except GeneratorExit:
            yield 2
            raise


async def a_stream_with_fail_after() -> int | None:
    async for number in _stream(lambda: anyio.fail_after(DEADLINE)):
        return number
    return None


async def a_stream_with_fail_after_that_is_kept() -> int | None:
    stream = _stream(lambda: anyio.fail_after(DEADLINE))
    kept.append(stream)
    async for number in stream:
        return number
    return None


async def a_stream_with_a_timeout_that_is_kept() -> int | None:
    stream = _stream_with_timeout()
    kept.append(stream)
    async for number in stream:
        return number
    return None


async def a_stream_that_ignores_its_close() -> int | None:
    async for number in _stream_that_goes_on():
        return number
    return None


async def a_cancel_scope() -> None:
    scope = anyio.CancelScope(deadline=anyio.current_time() + DEADLINE)
    scope.__enter__()
    kept.append(scope)


async def a_cancelled_scope() -> None:
    scope = anyio.CancelScope()
    scope.__enter__()
    scope.cancel()


async def a_timeout() -> None:
    scope = asyncio.timeout(DEADLINE)
    await scope.__aenter__()
    kept.append(scope)


async def an_anyio_group_whose_child_fails() -> None:
    group = anyio.create_task_group()
    await group.__aenter__()
    group.start_soon(_raise_soon)
    kept.append(group)


async def an_asyncio_group_whose_child_fails() -> None:
    group = asyncio.TaskGroup()
    await group.__aenter__()
    group.create_task(_raise_soon())
    kept.append(group)


async def a_timer_that_cancels_its_task() -> None:
    loop().call_later(DEADLINE, own_task().cancel)


async def a_timer_that_raises() -> None:
    loop().call_later(DEADLINE, _raise)


async def a_done_callback_that_raises() -> None:
    own_task().add_done_callback(lambda done: _raise())


async def a_child_that_fails() -> None:
    kept.append(asyncio.create_task(_raise_soon()))


async def a_child_that_cancels_it() -> None:
    parent = own_task()

    async def cancel() -> None:
        await asyncio.sleep(DEADLINE)
        parent.cancel()

    kept.append(asyncio.create_task(cancel()))


async def a_cancel_of_itself() -> None:
    own_task().cancel()


async def an_exception_handler() -> None:
    loop().set_exception_handler(lambda loop, context: _raise())
    loop().call_soon(_raise)


async def no_default_executor() -> None:
    with contextlib.suppress(RuntimeError):  # it is gone already
        await asyncio.to_thread(int)
    await loop().shutdown_default_executor()


async def a_context_variable() -> None:
    variable.set("rubbish")


ASYNC: list[Callable[[], Awaitable[Any]]] = [
    a_stream_with_fail_after,
    a_stream_with_fail_after_that_is_kept,
    a_stream_with_a_timeout_that_is_kept,
    a_stream_that_ignores_its_close,
    a_cancel_scope,
    a_cancelled_scope,
    a_timeout,
    an_anyio_group_whose_child_fails,
    an_asyncio_group_whose_child_fails,
    a_timer_that_cancels_its_task,
    a_timer_that_raises,
    a_done_callback_that_raises,
    a_child_that_fails,
    a_child_that_cancels_it,
    a_cancel_of_itself,
    an_exception_handler,
    no_default_executor,
    a_context_variable,
]


async def clear_away() -> None:
    """Drops what was kept, and closes what can be closed in another task."""
    for it in kept:
        if isinstance(it, AsyncGenerator):
            with contextlib.suppress(RuntimeError):
                await it.aclose()
        if isinstance(it, asyncio.Task):
            await asyncio.wait([it])
            it.exception() if not it.cancelled() else None
    kept.clear()


# --- in a thread, on its connection ---------------------------------------------------------------


def _execute(*statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def an_open_transaction() -> None:
    transaction.atomic().__enter__()
    Group.objects.create(name="rubbish")


def an_open_savepoint() -> None:
    transaction.atomic().__enter__()
    transaction.atomic().__enter__()


def a_broken_transaction() -> None:
    transaction.atomic().__enter__()
    with contextlib.suppress(DatabaseError):
        _execute("SELECT nothing FROM nowhere")


def a_transaction_marked_for_rollback() -> None:
    transaction.atomic().__enter__()
    transaction.set_rollback(True)


def a_closed_connection_in_a_transaction() -> None:
    transaction.atomic().__enter__()
    connection.close()


def no_autocommit() -> None:
    transaction.set_autocommit(False)
    Group.objects.create(name="rubbish")


def a_begin() -> None:
    _execute("BEGIN")


def a_lost_connection() -> None:
    connection.ensure_connection()
    connection.connection.close()


def an_execute_wrapper() -> None:
    def refuse(*args: Any) -> None:
        raise Rubbish

    connection.execute_wrapper(refuse).__enter__()


def an_event_loop() -> None:
    asyncio.set_event_loop(NoLoop())


class NoLoop(asyncio.AbstractEventLoop):
    """A loop that cannot run anything."""


def a_language_and_a_time_zone() -> None:
    translation.activate("de")
    timezone.activate("Asia/Tokyo")
    variable.set("rubbish")


def _run_sql(name: str, *statements: str) -> Callable[[], None]:
    def run() -> None:
        _execute(*statements)

    run.__name__ = name
    return run


def a_driver_isolation_level() -> None:
    connection.ensure_connection()
    connection.connection.isolation_level = 4  # serializable


def a_driver_that_only_reads() -> None:
    connection.ensure_connection()
    connection.connection.read_only = True


def rows_as_dicts() -> None:
    from psycopg.rows import dict_row

    connection.ensure_connection()
    connection.connection.row_factory = dict_row


THREAD: list[Callable[[], None]] = [
    an_open_transaction,
    an_open_savepoint,
    a_broken_transaction,
    a_transaction_marked_for_rollback,
    a_closed_connection_in_a_transaction,
    no_autocommit,
    a_begin,
    a_lost_connection,
    an_execute_wrapper,
    an_event_loop,
    a_language_and_a_time_zone,
]
SQLITE: list[Callable[[], None]] = [
    _run_sql("a_pragma", "PRAGMA query_only = ON"),
    _run_sql("a_temporary_table", "CREATE TEMP TABLE auth_group (id int)"),
]
POSTGRES: list[Callable[[], None]] = [
    _run_sql("a_set", "SET statement_timeout = 1", "SET search_path = nowhere"),
    _run_sql("read_only_sessions", "SET default_transaction_read_only = on"),
    _run_sql("a_time_zone", "SET TIME ZONE 'Asia/Tokyo'"),
    _run_sql("a_temporary_table", "CREATE TEMP TABLE auth_group (id int)"),
    _run_sql("an_advisory_lock", "SELECT pg_advisory_lock(42)"),
    _run_sql("a_listen", "LISTEN rubbish"),
    _run_sql("a_prepared_statement", "PREPARE rubbish AS SELECT 1"),
    _run_sql("a_cursor", "DECLARE rubbish CURSOR WITH HOLD FOR SELECT 1"),
    a_driver_isolation_level,
    a_driver_that_only_reads,
    rows_as_dicts,
]


def traces() -> dict[str, Any]:
    """Returns the state of this thread and its connection: `untouched()` if nothing is left.

    Writes a row too, which needs a connection that works.
    """
    loop_found = None
    with warnings.catch_warnings(), contextlib.suppress(RuntimeError):
        warnings.simplefilter("ignore")
        loop_found = isinstance(asyncio.get_event_loop(), NoLoop)
    found = {
        "loop": bool(loop_found),
        "variable": variable.get(),
        "language": translation.get_language(),
        "time zone": timezone.get_current_timezone_name(),
        "atomic": connection.in_atomic_block,
        "autocommit": connection.get_autocommit(),
        "rubbish": Group.objects.filter(name="rubbish").count(),
    }
    Group.objects.create(name=f"innocent {uuid4()}")
    if connection.vendor == "postgresql":
        raw = connection.connection
        found["driver"] = (raw.isolation_level, raw.read_only, raw.autocommit)
        with connection.cursor() as cursor:
            for what, query in _SERVER_SIDE.items():
                cursor.execute(query)
                found[what] = cursor.fetchone()[0]
    return found


_SERVER_SIDE = {
    "timeout": "SHOW statement_timeout",
    "path": "SHOW search_path",
    "read only": "SHOW default_transaction_read_only",
    "zone": "SHOW TIME ZONE",
    "locks": "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
    "channels": "SELECT count(*) FROM pg_listening_channels()",
    "prepared": "SELECT count(*) FROM pg_prepared_statements",
    "cursors": "SELECT count(*) FROM pg_cursors WHERE name = 'rubbish'",
}


def untouched(vendor: str) -> dict[str, Any]:
    """Returns `traces()` of a new thread, on a new connection."""
    found = {
        "loop": False, "variable": "clean", "language": "en-us",
        "time zone": settings.TIME_ZONE,
        "atomic": False, "autocommit": True, "rubbish": 0,
    }  # fmt: skip
    if vendor == "postgresql":
        found |= {
            "driver": (None, None, True), "timeout": "0", "path": '"$user", public',
            "read only": "off", "zone": "UTC", "locks": 0, "channels": 0, "prepared": 0,
            "cursors": 0,
        }  # fmt: skip
    return found
