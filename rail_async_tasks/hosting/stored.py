"""Submission that stores executions and begins none: other processes start them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from rail_async_tasks.conf import get_settings
from rail_async_tasks.hosting import process
from rail_async_tasks.hosting.submission import Inline, replace, replacement, stored
from rail_async_tasks.ledger.records import NewExecution
from rail_async_tasks.runtime.announce import announcer_for
from rail_async_tasks.snapshot import TaskSnapshot


class Stored(Inline):
    """Stores executions in the caller's thread and transaction, and begins none."""

    def submit(self, new: NewExecution) -> TaskSnapshot:
        ledger = process.ledger()
        created = ledger.create_here(new)
        ledger.notify_here()
        snapshot = stored(new, created)
        if created.existing is None:
            _announce([snapshot])
        return snapshot

    def submit_many(self, pages: Iterable[Sequence[NewExecution]]) -> list[TaskSnapshot]:
        ledger = process.ledger()
        made = ledger.create_many_here(pages)
        ledger.notify_here()
        _announce(made.fresh)
        return made.stored

    def queue_changed(self, queue: str) -> None:
        """Does nothing: what waits is started elsewhere."""


def _announce(fresh: Sequence[TaskSnapshot]) -> None:
    announcer = announcer_for(get_settings(), process.bus())
    for snapshot in fresh:
        announcer.enqueued(snapshot)


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
