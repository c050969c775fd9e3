"""Runs held executions, one attempt at a time, in the caller's thread and transaction."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, cast
from uuid import UUID

from django.db import DatabaseError

from rail_async_tasks.conf import TaskSettings, get_settings
from rail_async_tasks.hosting import process
from rail_async_tasks.hosting.held import Held
from rail_async_tasks.registry import registry
from rail_async_tasks.runtime.inline import InlineLedger, InlineRun
from rail_async_tasks.testing.rows import rows_of

# The attempts of one `run()`: more are a task that starts itself again and again.
MAX_ATTEMPTS: Final = 1_000


class HeldRun(InlineRun):
    """An inline run that keeps the exception of a body, and what the body wrote before it.

    Its retries have no jitter, so that a test knows when they are due, and every report of progress
    is published.
    """

    def __init__(self) -> None:
        ledger = cast("InlineLedger", _AtOnce(process.ledger()))
        super().__init__(_deterministic(get_settings()), registry, ledger, process.bus())
        self.raised: BaseException | None = None

    @contextmanager
    def _savepoint(self) -> Iterator[None]:
        """Rolls back a failed body only if it broke the transaction, as nothing does in a server.

        There a body is in no transaction but its own.
        """
        try:
            with super()._savepoint():
                try:
                    yield
                except BaseException as error:
                    self.raised = error
        except DatabaseError:  # the savepoint of a broken transaction
            if self.raised is None:
                raise
        if self.raised is not None:
            raise self.raised


class _AtOnce:
    """A ledger that calls failure callbacks at once: a test's transaction is never committed."""

    def __init__(self, ledger: Any) -> None:
        self._ledger = ledger

    def on_commit(self, callback: Callable[[], None]) -> None:
        callback()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)


def run_due(held: Held, names: frozenset[str], only: UUID | None = None) -> list[UUID]:
    """Runs what is due of these tasks, and what becomes due by that; `only` that one if given.

    Returns the executions that ran, in the order of their first attempts.

    Raises:
        RuntimeError: it does not come to an end.
    """
    rows = rows_of(process.ledger())
    ran: dict[UUID, None] = {}
    for _ in range(MAX_ATTEMPTS):
        execution_id = rows.next_due(names, only)
        if execution_id is None:
            return list(ran)
        ran[execution_id] = None
        _attempt(held, execution_id)
    raise RuntimeError(
        f"run() has made {MAX_ATTEMPTS} attempts and more are due: does a task start itself again,"
        " or retry without a delay? Give that start a delay."
    )


def _attempt(held: Held, execution_id: UUID) -> None:
    """Runs one attempt. A body that waits for another held task has that run, too."""
    run, before = HeldRun(), held.finish
    held.finish = lambda awaited: _finish(held, awaited)
    try:
        run.attempt(execution_id)
    finally:
        held.finish = before
    held.causes.pop(execution_id, None)
    if run.raised is not None:
        held.causes[execution_id] = run.raised


def _finish(held: Held, execution_id: UUID) -> None:
    run_due(held, registry.names(), only=execution_id)


_known: dict[int, tuple[TaskSettings, TaskSettings]] = {}


def _deterministic(settings: TaskSettings) -> TaskSettings:
    known = _known.get(id(settings))
    if known is not None and known[0] is settings:
        return known[1]
    _known.clear()  # those of settings that a test has overridden
    changed = dataclasses.replace(settings, retry_jitter=0.0, progress_interval_seconds=0.0)
    _known[id(settings)] = settings, changed
    return changed
