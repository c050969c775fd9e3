"""Executions that no runtime runs: in a test they are stored, and run when the test asks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

from rail_async_tasks.conf import get_settings
from rail_async_tasks.hosting import process
from rail_async_tasks.hosting.no_runtime import forbidden
from rail_async_tasks.hosting.submission import Inline, replace, replacement
from rail_async_tasks.ledger.records import NewExecution
from rail_async_tasks.ledger.snapshots import as_created
from rail_async_tasks.runtime.announce import announcer_for
from rail_async_tasks.snapshot import TaskSnapshot


class Held(Inline):
    """Stores executions in the caller's thread and transaction, and begins none.

    Attributes:
        causes: the exception that the last attempt of an execution has raised.
        finish: runs an execution while it is due. Set while a body runs, which may wait for it.
    """

    def __init__(self) -> None:
        self.causes: dict[UUID, BaseException] = {}
        self.finish: Callable[[UUID], None] | None = None

    def submit(self, new: NewExecution) -> TaskSnapshot:
        created = process.ledger().create_here(new)
        if created.existing is not None:
            return created.existing
        snapshot = as_created(new, created)
        announcer_for(get_settings(), process.bus()).enqueued(snapshot)
        return snapshot

    def submit_many(self, news: Sequence[NewExecution]) -> list[TaskSnapshot]:
        announcer, snapshots = announcer_for(get_settings(), process.bus()), []
        for new, created in zip(news, process.ledger().create_many_here(news), strict=True):
            snapshot = created.existing
            if snapshot is None:
                snapshot = as_created(new, created)
                announcer.enqueued(snapshot)
            snapshots.append(snapshot)
        return snapshots

    def queue_changed(self, queue: str) -> None:
        """Does nothing: the test runs what is due."""


@contextmanager
def holding() -> Iterator[Held]:
    """Holds executions of every backend while the block runs, and starts no runtime."""
    before, held = replacement(), Held()
    with forbidden(), process.other_services():
        replace(held)
        try:
            yield held
        finally:
            replace(before)


def holder() -> Held | None:
    """Returns what holds executions; None where they run by themselves."""
    found = replacement()
    return found if isinstance(found, Held) else None


def cause_of(execution_id: UUID) -> BaseException | None:
    """Returns the exception of the last attempt, if it was held and run here."""
    held = holder()
    return None if held is None else held.causes.get(execution_id)
