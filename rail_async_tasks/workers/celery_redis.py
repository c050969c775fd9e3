"""Celery's workers on Redis: the order of queues, and connections that are dead.

It knows the Redis transport of Celery's messaging library, kombu, from within.
"""

from __future__ import annotations

import math
import select
import socket
import time
from typing import Any

from kombu.utils.scheduling import round_robin_cycle

from rail_async_tasks.conf import get_settings
from rail_async_tasks.queue_limits import queue_limits
from rail_async_tasks.registry import registry
from rail_async_tasks.safe_logging import get_logger

logger = get_logger("rail_async_tasks.backends")


def priorities() -> dict[str, int]:
    """Returns the priority of each queue that the settings or the tasks name."""
    return {queue.name: queue.priority for queue in queue_limits(get_settings(), registry)}


class ByPriority(round_robin_cycle):  # type: ignore[misc]
    """The order in which a worker asks Redis for its queues: by priority, equal ones in turns."""

    asked_at = math.inf

    def consume(self, n: int) -> list[str]:
        self.asked_at = time.monotonic()
        ranks = priorities()
        return sorted(self.items[:n], key=lambda name: -ranks.get(name, 0))


def break_silence(consumer: Any, timeout: float) -> None:
    """Close a connection on which Redis owes an answer, so that Celery connects anew.

    Redis answers once a second, if with nothing. Celery does not notice a connection that is open
    at this end only (kombu 5.7 does, in part).

    Args:
        timeout: how late an answer may be, in seconds.
    """
    for channel in getattr(consumer.connection.transport, "channels", ()):
        order, asked = getattr(channel, "_queue_cycle", None), getattr(channel, "_in_poll", None)
        if not isinstance(order, ByPriority) or not asked or not channel.qos.can_consume():
            continue
        waited = time.monotonic() - order.asked_at
        connected = asked._sock  # noqa: SLF001
        overdue = waited > channel.brpop_timeout + timeout and connected is not None
        if overdue and not select.select([connected], [], [], 0)[0]:
            logger.warning("Redis has not answered for %.0f s; connecting anew", waited)
            connected.shutdown(socket.SHUT_RDWR)
