"""Changes rows without waiting for locks that another transaction holds.

A thread that writes for a whole process must not wait for one caller's transaction. So it skips
locked rows, or lets a statement fail that would wait, and looks again later. A skipped row is "not
now", never "gone".
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, TypeVar

from django.db import Error, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model, QuerySet

M = TypeVar("M", bound=Model)

# Seconds before the next look at a locked row: after the first look, and at most.
FIRST_DELAY = 0.01
MAX_DELAY = 0.5


def delay_after(looks: int) -> float:
    """Returns the seconds to wait after so many looks at a locked row: each wait doubles."""
    return float(min(FIRST_DELAY * 2.0 ** min(looks - 1, 20), MAX_DELAY))


def unlocked(rows: QuerySet[M], *, to_delete: bool = False) -> QuerySet[M]:
    """Returns the rows, locked, except those locked by another transaction.

    In a transaction. A database that can't skip locked rows returns all of them, and locks none.
    """
    features = connections[rows.db].features
    if not features.has_select_for_update_skip_locked:
        return rows
    # The weaker lock lets others insert rows with a foreign key to these.
    weaker = features.has_select_for_no_key_update and not to_delete
    return rows.select_for_update(skip_locked=True, no_key=weaker)


class Changed(NamedTuple):
    """The number of rows that an update changed, and the ids of locked rows that it left out."""

    rows: int
    locked: set[Any]


def update_unlocked(rows: QuerySet[M], **values: Any) -> Changed:
    """Updates the rows that no other transaction has locked."""
    alias = rows.db
    if not connections[alias].features.has_select_for_update_skip_locked:
        return Changed(rows.update(**values), set())
    table: QuerySet[M] = QuerySet(rows.model, using=alias)
    with transaction.atomic(using=alias):
        ids = list(unlocked(rows).values_list("pk", flat=True))
        locked = set(rows.exclude(pk__in=ids).values_list("pk", flat=True))
        return Changed(table.filter(pk__in=ids).update(**values) if ids else 0, locked)


@contextmanager
def without_waiting(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """An outermost transaction whose statements fail where they would wait for a row's lock.

    See `is_lock_refusal`. Not for statements that skip locked rows: with no time to wait MariaDB
    fails their COMMIT (error 1180). SQLite has one lock for all writers; on it, and on databases
    other than PostgreSQL, MariaDB and MySQL, statements wait as they do elsewhere.
    """
    if connection.vendor == "mysql":
        # The least that MySQL takes is a second.
        least = 0 if getattr(connection, "mysql_is_mariadb", False) else 1
        name = "innodb_lock_wait_timeout"
        with connection.cursor() as cursor:
            cursor.execute(f"SET @rail_lock_wait = @@SESSION.{name}, SESSION {name} = {least}")
        try:
            with transaction.atomic(using=connection.alias):
                yield
        finally:
            with suppress(Error), connection.cursor() as cursor:
                cursor.execute(f"SET SESSION {name} = @rail_lock_wait")
        return
    with transaction.atomic(using=connection.alias):
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute(POSTGRESQL_NO_WAIT)
        yield


# In a transaction: its statements fail after a millisecond of waiting for a lock.
POSTGRESQL_NO_WAIT = "SET LOCAL lock_timeout = 1"


def is_lock_refusal(error: Exception) -> bool:
    """Returns whether a statement failed only because another transaction holds a lock."""
    cause = error.__cause__
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    return state == "55P03" or error.args[:1] in ((1205,), (3572,))  # MySQL's numbers
