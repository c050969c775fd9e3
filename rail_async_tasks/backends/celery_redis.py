"""Finds which messages of Celery's a Redis has lost.

It knows the Redis transport of Celery's messaging library, kombu, from within.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from rail_async_tasks.ledger.dispatch_records import Dispatch

# The most messages that are searched for what was lost.
MOST_LOOKED_AT: Final = 5000


def is_redis(connection: Any) -> bool:
    """Returns whether a connection of kombu's is one to Redis, be it open or not."""
    return bool(connection.transport.driver_type == "redis")


def not_on_redis(
    channel: Any, dispatches: Sequence[Dispatch], name: Callable[[Dispatch], str]
) -> Sequence[Dispatch]:
    """Returns the dispatches whose message neither waits in Redis nor is at a worker.

    Returns () for other brokers, and where more than `MOST_LOOKED_AT` messages wait. Blocks.

    Args:
        name: returns the id of a dispatch's message.
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
        if sum(client.llen(key) for key in keys) > MOST_LOOKED_AT:  # perhaps the app's own tasks
            return ()
        # A message goes from the lists to a worker, and back: so they are read before and after.
        found = [it for key in keys for it in client.lrange(key, 0, -1)]
        found += client.hvals(channel.unacked_key)
        found += [it for key in keys for it in client.lrange(key, 0, -1)]
    text = b"\n".join(found).decode(errors="replace").replace("\\", "")
    return [it for it in dispatches if f'"{name(it)}"' not in text]
