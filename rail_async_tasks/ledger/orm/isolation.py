"""Retries and reads for the caller's connection, at any isolation level.

The ledger's own connections use READ COMMITTED. The project sets the level of the caller's: at
REPEATABLE READ and SERIALIZABLE the database refuses changes that it cannot serialize, and a
transaction does not see rows that were committed after it began.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar

from django.db import DatabaseError, OperationalError, connections

from rail_async_tasks.db_connections import dedicated_connection
from rail_async_tasks.ledger.tables import is_lack_of_tables, refusal

P = ParamSpec("P")
T = TypeVar("T")

# PostgreSQL's serialization_failure and deadlock_detected: another try may succeed.
_REFUSED: Final = ("40001", "40P01")
# MySQL's and MariaDB's numbers: a record changed since the snapshot, a deadlock.
_REFUSED_BY_MYSQL: Final = (1020, 1213)
_TRIES: Final = 10
# The longest random pause before another try, in seconds. It separates two competing changes.
_PAUSE: Final = 0.01


class _OnDatabase(Protocol):
    alias: str


def is_serialization_failure(error: DatabaseError) -> bool:
    """Returns whether the same transaction may succeed another time."""
    if not isinstance(error, OperationalError):
        return False
    if getattr(error.__cause__, "sqlstate", None) in _REFUSED:
        return True
    return bool(error.args) and error.args[0] in _REFUSED_BY_MYSQL


def retried(
    method: Callable[Concatenate[Any, P], T],
) -> Callable[Concatenate[Any, P], T]:
    """Repeats a ledger's method after a serialization failure, up to `_TRIES` times.

    Raises `TablesMissing` where the database lacks the tables.

    Inside the caller's transaction the error goes to the caller: only the whole transaction can be
    repeated.
    """

    @wraps(method)
    def call(self: _OnDatabase, /, *args: P.args, **kwargs: P.kwargs) -> T:
        for left in reversed(range(_TRIES)):
            try:
                return method(self, *args, **kwargs)
            except DatabaseError as error:
                if is_lack_of_tables(error):
                    raise refusal(self.alias) from error
                inside = connections[self.alias].in_atomic_block
                if inside or not left or not is_serialization_failure(error):
                    raise
            time.sleep(random.uniform(0, _PAUSE))  # noqa: S311 (no secret)
        raise AssertionError  # unreachable: the last try returns or raises

    return call


def read_outside(alias: str, read: Callable[[], T]) -> T:
    """Returns `read()`, run on a new connection outside the caller's transaction."""

    def in_thread() -> T:
        # Not from a pool: the caller may hold its last connection.
        dedicated_connection(alias)
        try:
            return read()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1, "rail-tasks-outside") as thread:
        return thread.submit(in_thread).result()
