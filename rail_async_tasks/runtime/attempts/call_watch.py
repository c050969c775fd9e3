"""Notices what an ORM call leaves on its thread's connections for the next call.

A session can't be asked without a query. So statements are read as Django executes them: each that
is not plain (`plain_sql.py`) may have left something.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any
from weakref import ref

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from rail_async_tasks.runtime.attempts.leftovers import (
    has_changed_modes,
    in_transaction,
    is_closed,
    is_touched,
)
from rail_async_tasks.runtime.attempts.plain_sql import is_plain

_CONNECT = BaseDatabaseWrapper.connect.__wrapped__.__code__  # type: ignore[attr-defined]
_CURSORS = 100  # references to cursors before those to freed ones are dropped


class CallWatch:
    """Watches this thread's connections during one call.

    Args:
        is_wary: whether any use of a connection is a change. What a manager of `around_task` sets
            there is meant for its body.
    """

    __slots__ = ("_before", "_cursors", "_is_wary", "_left", "_note", "_watched")

    def __init__(self, is_wary: bool) -> None:
        self._is_wary = is_wary
        self._left = False
        self._cursors: list[ref[Any]] = []
        self._watched = _all_connections()
        self._before = [_state(it, is_wary) for it in self._watched]
        self._note = self._executing
        for it in self._watched:
            it.execute_wrappers.insert(0, self._note)

    def _executing(
        self, execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any
    ) -> Any:
        if not self._left:
            connection = context["connection"]
            if (
                self._is_wary
                or not is_plain(sql, connection.vendor)
                or len(connection.execute_wrappers) > 1  # which may put another statement before it
            ):
                self._left = not _is_connecting(connection)
            if len(self._cursors) > _CURSORS:
                self._cursors = [it for it in self._cursors if it() is not None]
            self._cursors.append(ref(context["cursor"]))
        return execute(sql, params, many, context)

    def ended(self) -> bool:
        """Ends the watch. Returns whether something may be left for the next call.

        A connection that is closed or broken is replaced.
        """
        note, left = self._note, self._left
        del self._note  # which refers to this watch
        now = _all_connections()
        for it, before in zip(self._watched, self._before, strict=True):
            if note in it.execute_wrappers:
                it.execute_wrappers.remove(note)
            left = left or (before is not None and _has_changed(it, before, self._is_wary))
        for it in now:
            left = _leaves(it) or left
        return left or now != self._watched or any(_is_open(it()) for it in self._cursors)


def _all_connections() -> Sequence[BaseDatabaseWrapper]:
    """This thread's connections, those too that the call may be the first to use."""
    try:
        return connections.all()
    except Exception:  # the driver of one is missing: the others go on
        return connections.all(initialized_only=True)


def _is_open(cursor: Any) -> bool:
    """Returns whether a cursor may still be read. SQLite's don't tell; Django drops it by then."""
    return cursor is not None and not getattr(cursor, "closed", False)


def _leaves(connection: BaseDatabaseWrapper) -> bool:
    if is_touched(connection):
        return True
    if connection.connection is None:
        return False
    if in_transaction(connection):
        return True
    if is_closed(connection):
        connection.close()
    elif connection.errors_occurred:
        if not connection.is_usable():
            connection.close()
        connection.errors_occurred = False
    return connection.connection is not None and has_changed_modes(connection)


def _is_connecting(connection: BaseDatabaseWrapper) -> bool:
    """Returns whether it sets up a new connection: receivers of `connection_created` too.

    The next connection is set up in the same way.
    """
    frame = sys._getframe()  # noqa: SLF001
    while (frame := frame.f_back) is not None:  # type: ignore[assignment]
        if frame.f_code is _CONNECT and frame.f_locals.get("self") is connection:
            return True
    return False


# --- attributes of wrappers -----------------------------------------------------------------------


def _state(connection: BaseDatabaseWrapper, is_wary: bool) -> dict[str, Any] | None:
    """Attributes of a wrapper in which a library keeps a schema, a role or a tenant.

    None where it is Django's own wrapper, which has none of them.
    """
    if is_wary:
        return dict(vars(connection))
    djangos = _djangos_names(type(connection))  # type: ignore[arg-type]
    if djangos is None:
        return None
    return {name: value for name, value in vars(connection).items() if name not in djangos}


def _has_changed(connection: BaseDatabaseWrapper, before: dict[str, Any], is_wary: bool) -> bool:
    now = vars(connection)
    if is_wary and len(now) != len(before):  # else Django's: it adds some as it connects
        return True
    return any(name not in now or now[name] is not value for name, value in before.items())


@lru_cache(maxsize=32)
def _djangos_names(kind: type[BaseDatabaseWrapper]) -> frozenset[str] | None:
    """Attributes of the Django wrapper that `kind` is derived from; None if it is Django's own."""
    if kind.__module__.startswith("django."):
        return None
    base = next(it for it in kind.__mro__ if it.__module__.startswith("django."))
    return frozenset(dir(base)) | frozenset(vars(base({}, "")))
