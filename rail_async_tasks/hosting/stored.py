"""Submission that stores executions and begins none: other processes start them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rail_async_tasks.conf import get_settings
from rail_async_tasks.hosting import process
from rail_async_tasks.hosting.submission import Inline, replace, replacement, stored
from rail_async_tasks.ledger.records import Created, NewExecution
from rail_async_tasks.runtime.announce import announcer_for
from rail_async_tasks.snapshot import TaskSnapshot


class Stored(Inline):
    """Stores executions in the caller's thread and transaction, and begins none."""

    def submit(self, new: NewExecution) -> TaskSnapshot:
        ledger = process.ledger()
        created = ledger.create_here(new)
        ledger.notify_here()
        return _announced(new, created)

    def submit_many(self, news: Sequence[NewExecution]) -> list[TaskSnapshot]:
        ledger = process.ledger()
        made = ledger.create_many_here(news)
        ledger.notify_here()
        return [_announced(new, created) for new, created in zip(news, made, strict=True)]

    def queue_changed(self, queue: str) -> None:
        """Does nothing: what waits is started elsewhere."""


def _announced(new: NewExecution, created: Created) -> TaskSnapshot:
    snapshot = stored(new, created)
    if created.existing is None:
        announcer_for(get_settings(), process.bus()).enqueued(snapshot)
    return snapshot


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
