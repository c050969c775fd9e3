"""Changes on a connection of the project's, whatever isolation level it has set.

The ledger's own connections are at READ COMMITTED. On the caller's connection the project decides:
at REPEATABLE READ and SERIALIZABLE a database refuses what it cannot serialize, and a transaction
does not see what others have committed since it began.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar

from django.db import OperationalError, connections

from rail_async_tasks.ledger.connections import dedicated_connection

P = ParamSpec("P")
T = TypeVar("T")

# PostgreSQL's serialization_failure and deadlock_detected: another try may succeed.
_REFUSED: Final = ("40001", "40P01")
# The same of MySQL and MariaDB: a record that has changed since the snapshot, a deadlock.
_REFUSED_BY_MYSQL: Final = (1020, 1213)
_TRIES: Final = 10
# The most that one waits before it tries again, in seconds: two that refuse each other get apart.
_PAUSE: Final = 0.01


class _OnDatabase(Protocol):
    alias: str


def is_serialization_failure(error: OperationalError) -> bool:
    """Whether the same transaction may succeed another time."""
    if getattr(error.__cause__, "sqlstate", None) in _REFUSED:
        return True
    return bool(error.args) and error.args[0] in _REFUSED_BY_MYSQL


def retried(
    method: Callable[Concatenate[Any, P], T],
) -> Callable[Concatenate[Any, P], T]:
    """Repeat a method of a ledger that the database refused to serialize.

    In the caller's transaction it is the whole of that which must be repeated: the error is the
    caller's then.
    """

    @wraps(method)
    def call(self: _OnDatabase, /, *args: P.args, **kwargs: P.kwargs) -> T:
        for left in reversed(range(_TRIES)):
            try:
                return method(self, *args, **kwargs)
            except OperationalError as error:
                inside = connections[self.alias].in_atomic_block
                if inside or not left or not is_serialization_failure(error):
                    raise
            time.sleep(random.uniform(0, _PAUSE))  # noqa: S311 (no secret)
        raise AssertionError  # unreachable: the last try returns or raises

    return call


def read_outside(alias: str, read: Callable[[], T]) -> T:
    """What `read` finds on a connection of its own, outside the caller's transaction."""

    def in_thread() -> T:
        # Not from a pool, whose last connection the caller may hold.
        dedicated_connection(alias)
        try:
            return read()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1, "rail-tasks-outside") as thread:
        return thread.submit(in_thread).result()
