"""The queues of a project and what may run in each at once."""

from __future__ import annotations

import msgspec

from rail_async_tasks.conf import RateLimit, TaskSettings
from rail_async_tasks.registry import Registry


class QueueLimits(msgspec.Struct, frozen=True):
    """A queue's place among the others (higher first), and what of it may start.

    `concurrency`: at most so many at once in this process. `rate`: starts in a time, of all
    processes together.
    """

    name: str
    priority: int = 0
    concurrency: int | None = None
    rate: RateLimit | None = None


def queue_limits(settings: TaskSettings, registry: Registry) -> list[QueueLimits]:
    """The queues of the settings, and those that only a declaration names, with default options."""
    limits = {
        name: QueueLimits(name, queue.priority, queue.concurrency, queue.rate)
        for name, queue in settings.queues.items()
    }
    for name in registry.queues():
        limits.setdefault(name, QueueLimits(name))
    return list(limits.values())
