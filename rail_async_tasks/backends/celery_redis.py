"""What the Celery backend does about Redis: the order of queues, lost messages, dead connections.

It knows the Redis transport of Celery's messaging library, kombu, from within.
"""

from __future__ import annotations

import math
import select
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from kombu.utils.scheduling import round_robin_cycle

from rail_async_tasks.conf import get_settings
from rail_async_tasks.definition import registry
from rail_async_tasks.ledger.records import Dispatch
from rail_async_tasks.queue_limits import queue_limits
from rail_async_tasks.safe_logging import get_logger

logger = get_logger("rail_async_tasks.backends")

# Messages that are looked through for what was lost, at most.
MOST_LOOKED_AT: Final = 5000


def is_redis(connection: Any) -> bool:
    """Whether that connection of kombu's is one to Redis, made or not."""
    return bool(connection.transport.driver_type == "redis")


def priorities() -> dict[str, int]:
    """Of the queues that the settings and the tasks name."""
    return {queue.name: queue.priority for queue in queue_limits(get_settings(), registry)}


class ByPriority(round_robin_cycle):  # type: ignore[misc]
    """The order in which a worker asks Redis for its queues: by priority, the like in turns."""

    asked_at = math.inf

    def consume(self, n: int) -> list[str]:
        self.asked_at = time.monotonic()
        ranks = priorities()
        return sorted(self.items[:n], key=lambda name: -ranks.get(name, 0))


def not_on_redis(
    channel: Any, dispatches: Sequence[Dispatch], name: Callable[[Dispatch], str]
) -> Sequence[Dispatch]:
    """Those whose message, of that name, neither waits in Redis nor is at a worker.

    Blocks. Of no other broker, and of a Redis with much in it, anything is said.
    """
    # With a prefix the client knows only some commands under their keys' names.
    if not is_redis(channel.connection.client) or channel.global_keyprefix:
        return ()
    keys = [
        channel._q_for_pri(queue, step)  # noqa: SLF001
        for queue in sorted({it.queue for it in dispatches})
        for step in channel.priority_steps
    ]
    with channel.conn_or_acquire() as client:
        if sum(client.llen(key) for key in keys) > MOST_LOOKED_AT:  # the app's own tasks, it may be
            return ()
        # From the lists a message goes to a worker, and back: so they are read before and after.
        found = [it for key in keys for it in client.lrange(key, 0, -1)]
        found += client.hvals(channel.unacked_key)
        found += [it for key in keys for it in client.lrange(key, 0, -1)]
    text = b"\n".join(found).decode(errors="replace").replace("\\", "")
    return [it for it in dispatches if f'"{name(it)}"' not in text]


def break_silence(consumer: Any, patience: float) -> None:
    """Has Celery connect anew where Redis owes an answer: one comes every second, if an empty one.

    Nothing else finds a connection that is open at this end only (kombu 5.7 does, in part).
    """
    for channel in getattr(consumer.connection.transport, "channels", ()):
        order, asked = getattr(channel, "_queue_cycle", None), getattr(channel, "_in_poll", None)
        if not isinstance(order, ByPriority) or not asked or not channel.qos.can_consume():
            continue
        waited = time.monotonic() - order.asked_at
        connected = asked._sock  # noqa: SLF001
        overdue = waited > channel.brpop_timeout + patience and connected is not None
        if overdue and not select.select([connected], [], [], 0)[0]:
            logger.warning("Redis has not answered for %.0f s; connecting anew", waited)
            connected.shutdown(socket.SHUT_RDWR)
