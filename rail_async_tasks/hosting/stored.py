"""Submission that stores executions and begins none: other processes start them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rail_async_tasks.conf import get_settings
from rail_async_tasks.hosting import process
from rail_async_tasks.hosting.submission import Inline, replace, replacement
from rail_async_tasks.ledger.records import NewExecution
from rail_async_tasks.ledger.snapshots import as_created
from rail_async_tasks.runtime.announce import announcer_for
from rail_async_tasks.snapshot import TaskSnapshot


class Stored(Inline):
    """Stores executions in the caller's thread and transaction, and begins none."""

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
        """Does nothing: what waits is started elsewhere."""


@contextmanager
def storing() -> Iterator[None]:
    """Starts no runtime for executions that are submitted while the block runs."""
    before = replacement()
    if before is not None:  # a test that holds them already
        yield
        return
    replace(Stored())
    try:
        yield
    finally:
        replace(before)
