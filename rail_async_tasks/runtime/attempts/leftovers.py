"""Closes what a body leaves open on its connections, before the next body runs.

No state of a connection outlives the body that used it. The connection is closed, and the next body
gets a new wrapper; or, on PostgreSQL, where it is from a pool or is to last (`CONN_MAX_AGE`), its
session is reset. So there is no list of things to look for, and a plain `SET`, of which the driver
knows nothing, ends with the rest. An open transaction alone is looked for, to warn of it: its work
is lost.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from rail_async_tasks.safe_logging import get_logger

logger = get_logger("rail_async_tasks.runtime")

# What libpq calls PQTRANS_ACTIVE, INTRANS and INERROR.
_OPEN = {1, 2, 3}


def in_transaction(connection: BaseDatabaseWrapper) -> bool:
    """Returns whether statements on it are, or would be, part of an open transaction.

    Goes by what Django and the driver know; asks the server nothing.
    """
    if connection.in_atomic_block:
        return True
    raw = connection.connection
    if raw is None:
        return False
    if connection.autocommit != connection.settings_dict["AUTOCOMMIT"]:
        return True
    with suppress(Exception):  # SQLite's, once it is closed
        if connection.vendor == "sqlite":
            return bool(raw.in_transaction)
        if connection.vendor == "postgresql":
            return bool(raw.info.transaction_status in _OPEN)
    return False


def is_closed(connection: BaseDatabaseWrapper) -> bool:
    """Returns whether the driver's connection was closed behind Django's back."""
    raw = connection.connection
    if connection.vendor == "sqlite":
        try:
            raw.in_transaction  # noqa: B018 - Django's `is_usable` sees nothing of it
        except Exception:
            return True
    return connection.vendor == "postgresql" and bool(raw.closed)


def has_changed_modes(connection: BaseDatabaseWrapper) -> bool:
    """Returns whether the driver's connection is in other modes than Django has set.

    False for drivers other than those of Django's own wrappers.
    """
    raw = connection.connection
    with suppress(AttributeError):
        if connection.vendor == "sqlite":
            return (
                raw.row_factory is not None
                or raw.text_factory is not str
                or (connection.autocommit and raw.isolation_level is not None)
            )
        if connection.vendor == "postgresql":
            options = connection.settings_dict["OPTIONS"]
            return (
                raw.autocommit != connection.autocommit
                or raw.read_only is not None
                or raw.deferrable is not None
                or raw.isolation_level not in (None, options.get("isolation_level"))
                or raw.row_factory.__name__ != "tuple_row"
                or raw.prepare_threshold != options.get("prepare_threshold")
            )
    return False


def give_back(who: object) -> None:
    """Closes this thread's connections, resets them or returns them to their pools. Never raises.

    Args:
        who: what has used them, for the warning about a transaction that is rolled back.
    """
    for connection in connections.all(initialized_only=True):
        if connection.connection is None and not is_touched(connection):
            continue
        lasts = False
        try:
            clean = not in_transaction(connection)
            if not clean:
                _warn(who, connection.alias)
            lasts = clean and _may_last(connection) and _reset(connection)
            if not lasts and connection.connection is not None:
                _close(connection, clean)
        except Exception:
            logger.warning("A connection to %r did not close", connection.alias, exc_info=True)
        if not lasts:
            # The wrapper has a state of its own: blocks, savepoints, wrappers of `execute`.
            alias, settings_dict = connection.alias, connection.settings_dict
            connections[alias] = type(connection)(settings_dict, alias)


def _may_last(connection: BaseDatabaseWrapper) -> bool:
    """Returns whether a clean connection is worth a reset: it is PostgreSQL's and of no pool.

    Wrappers of others than Django keep states that a reset of the server does not reach.
    """
    if (
        connection.vendor != "postgresql"
        or not type(connection).__module__.startswith("django.")
        or getattr(connection, "pool", None)
        or is_touched(connection)
    ):
        return False
    connection.close_if_unusable_or_obsolete()
    return connection.connection is not None


def is_touched(connection: BaseDatabaseWrapper) -> bool:
    """Returns whether a wrapper is in another state than a new one, its connection apart."""
    return bool(
        connection.in_atomic_block or connection.execute_wrappers or connection.force_debug_cursor
    )


def _warn(who: object, alias: str) -> None:
    where = "" if alias == DEFAULT_DB_ALIAS else f"using={alias!r}"
    logger.warning(
        "%s ended in an open transaction on the database %r, which is rolled back. Write"
        " `with transaction.atomic(%s):`, which ends with its block.", str(who), alias, where,
    )  # fmt: skip


def _close(connection: BaseDatabaseWrapper, clean: bool) -> None:
    raw = connection.connection
    if getattr(connection, "pool", None) and not (clean and _reset(connection)):
        raw.close()  # the pool replaces one that comes back closed
    connection.close()


def _reset(connection: BaseDatabaseWrapper) -> bool:
    """Resets the session of a connection that others will use; returns whether that is enough."""
    raw = connection.connection
    if (
        raw.closed
        or has_changed_modes(connection)
        or raw._notice_handlers  # noqa: SLF001 - there is no other way to ask
        or raw._notify_handlers  # noqa: SLF001
        or raw.prepare_threshold is not None  # psycopg would go on naming statements that are gone
    ):
        return False
    if connection.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS"):
        return True  # behind a pooler of transactions, which has no session to reset
    try:
        raw.execute("DISCARD ALL")
        # As Django does with a new one: the time zone, a role, the project's own receivers.
        connection._configure_connection(raw)  # type: ignore[attr-defined]  # noqa: SLF001
        if not connection.pool:  # type: ignore[attr-defined]
            # A pool's are announced each time that they are taken from it.
            connection_created.send(sender=type(connection), connection=connection)
    except Exception:  # it is lost, or the driver's own pool is another one than we know
        return False
    return True


@contextmanager
def as_found(who: object) -> Iterator[None]:
    """Ends, after a body in the caller's own thread, the transactions that the body left open.

    Those that the caller had begun stay open. The connections are the caller's, and so is what
    else the body sets on them.
    """
    before = {
        it.alias: (len(it.atomic_blocks), in_transaction(it))
        for it in connections.all(initialized_only=True)
    }
    try:
        yield
    finally:
        for connection in connections.all(initialized_only=True):
            _unwind(connection, *before.get(connection.alias, (0, False)), who)


def _unwind(connection: BaseDatabaseWrapper, depth: int, in_one: bool, who: object) -> None:
    left = RuntimeError("The body left its transaction open.")
    if len(connection.atomic_blocks) > depth:
        _warn(who, connection.alias)
    while len(connection.atomic_blocks) > depth:
        connection.atomic_blocks[-1].__exit__(RuntimeError, left, None)
    if not in_one and in_transaction(connection):  # by `set_autocommit`, or a plain BEGIN
        _warn(who, connection.alias)
        connection.rollback()
        connection.set_autocommit(connection.settings_dict["AUTOCOMMIT"])


def close_scopes() -> None:
    """Closes anyio's cancel scopes that the current task has entered and not left.

    A scope and its task refer to each other, and anyio to both: they would never be freed. Versions
    before 4.15 go on cancelling, at every step of the loop, a task that has ended.
    """
    task = asyncio.current_task()
    assert task is not None
    # Who has not imported it has entered none; another version may keep them elsewhere.
    states = getattr(sys.modules.get("anyio._backends._asyncio"), "_task_states", {})
    with suppress(Exception):
        while (state := states.get(task)) is not None and state.cancel_scope is not None:
            state.cancel_scope.__exit__(None, None, None)
