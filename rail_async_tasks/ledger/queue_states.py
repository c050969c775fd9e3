"""The ledger's port for what operators change about queues at run time."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Protocol
from uuid import UUID

import msgspec


class Pause(msgspec.Struct, frozen=True):
    """Since when a queue has been paused, and by whom: a user's id, or another text."""

    at: datetime
    by: str | None


class QueueCounts(msgspec.Struct, frozen=True, kw_only=True):
    """The unfinished executions of a queue.

    `oldest_seconds` is the age of the oldest pending one that is due; None without such a one.
    """

    name: str
    pending: int = 0
    running: int = 0
    retrying: int = 0
    oldest_seconds: float | None = None


class PausedQueues(Protocol):
    """The paused queues, for the runtime."""

    async def paused_queues(self) -> Collection[str]:
        """Returns the names of the paused queues, on the runtime's loop."""
        ...


class QueueStates(PausedQueues, Protocol):
    """Pauses, and counts by queue. In the caller's thread and transaction."""

    def pause_queue(self, queue: str, by: str | None) -> bool:
        """Pauses a queue; False if it is paused already, which keeps its first time and name."""
        ...

    def resume_queue(self, queue: str, by: str | None) -> bool:
        """Ends a pause; False if the queue is not paused."""
        ...

    def pauses(self) -> Mapping[str, Pause]:
        """Returns the paused queues by name."""
        ...

    def queue_counts(self) -> list[QueueCounts]:
        """Counts the unfinished executions of each queue that has some."""
        ...

    def waiting_in(self, queue: str, names: Collection[str], limit: int) -> list[UUID]:
        """Returns the first waiting executions of these tasks, due or not, by priority and age."""
        ...
