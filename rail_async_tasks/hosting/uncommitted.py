"""Executions that a caller's open transaction has inserted: they begin after its commit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID
from weakref import WeakValueDictionary

from rail_async_tasks.snapshot import TaskSnapshot


class StartAfterCommit:
    """The `on_commit` callback of executions that a caller's transaction has inserted.

    Args:
        start: begins them. In the caller's thread.
    """

    def __init__(
        self, start: Callable[[Sequence[TaskSnapshot]], None], made: Sequence[TaskSnapshot]
    ) -> None:
        self.thread = threading.get_ident()
        self._start, self._made = start, made
        for snapshot in made:
            _uncommitted[snapshot.id] = self

    def __call__(self) -> None:
        self._start(self._made)


# Only the transaction keeps the callbacks: at its end, whichever, they are gone from here.
_uncommitted: Final = WeakValueDictionary[UUID, StartAfterCommit]()


def is_uncommitted_here(execution_id: UUID) -> bool:
    """Returns whether the execution is part of a transaction that this thread has open."""
    callback = _uncommitted.get(execution_id)
    return callback is not None and callback.thread == threading.get_ident()
