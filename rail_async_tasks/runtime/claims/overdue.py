"""The warning that no worker takes what was sent to a queue."""

from __future__ import annotations

from collections.abc import Callable

from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.text import counted

logger = get_logger("rail_async_tasks.runtime")

# Seconds between two warnings about one queue.
WARN_EVERY_SECONDS = 60.0


class OverdueWarnings:
    """Logs overdue dispatches, at most once a minute for each queue."""

    def __init__(
        self,
        broker: str,
        *,
        clock: Callable[[], float],
        warn_every: float = WARN_EVERY_SECONDS,
    ) -> None:
        self._broker = broker
        self._clock = clock
        self._warn_every = warn_every
        self._warn_at: dict[str, float] = {}  # by queue

    def report(self, queue: str, count: int) -> None:
        """So many of the queue were sent once more, as no worker has taken them."""
        now = self._clock()
        if count and now >= self._warn_at.get(queue, now):
            self._warn_at[queue] = now + self._warn_every
            logger.warning(
                "The queue %r: %s, sent to %s a minute ago or more, taken by no worker, sent again."
                " Does a worker serve this queue?",
                queue, counted(count, "task"), self._broker,
            )  # fmt: skip
