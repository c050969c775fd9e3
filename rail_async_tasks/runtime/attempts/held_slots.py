"""Which attempts keep a task from a slot of this process, by which limit. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from rail_async_tasks.runtime.attempts.attempt import Attempt
from rail_async_tasks.runtime.claims.slots import Slots

# So many attempts are named in a message.
NAMED: Final = 3

_KEEP_THE_CONTEXT: Final = (
    "enqueue the task in the body and hand the handle to the thread, or use asyncio.to_thread(),"
    " which keeps the body's context. Then the task runs beside the limit."
)
_OTHER_QUEUE: Final = (
    "raise the queue's concurrency, or enqueue the task with .using(queue=...) in another queue."
)
_OTHER_WORKERS: Final = "add workers, or give the task a queue with workers of its own."


class HeldSlots(NamedTuple):
    """The slots that a task would need, none of which is free.

    Args:
        why: why the task has not begun.
        holders: the attempts that hold the slots.
        remedy: what to do if one of them waits for the task.
    """

    why: str
    holders: list[Attempt]
    remedy: str

    def __str__(self) -> str:
        names = ", ".join(str(it) for it in self.holders[:NAMED])
        unnamed = len(self.holders) - NAMED
        return f"{names} and {unnamed} more" if unnamed > 0 else names


def held_slots(
    slots: Slots, running: Iterable[Attempt], queue: str, in_thread: bool
) -> HeldSlots | None:
    """Returns what keeps a task of that queue and kind from a slot; None if it may start.

    A queue of which nothing may start, whatever ends, is no matter of slots.
    """
    if queue in slots.stopped or slots.room(queue, in_thread) > 0:
        return None
    held = [it for it in running if not it.ended]
    if slots.queue_room(queue) <= 0:
        held = [it for it in held if it.snapshot.queue == queue]
        why = f'the limit of the queue {queue!r} ("concurrency": {len(held)}) is reached'
        return HeldSlots(why, held, _OTHER_QUEUE)
    setting = "max_workers"
    if not slots.total_reached:
        held = [it for it in held if it.definition.is_coroutine is not in_thread]
        setting = "max_workers" if in_thread else "max_concurrency"
    why = f"the limit of this process ({setting}) is reached"
    return HeldSlots(why, held, _KEEP_THE_CONTEXT)


def held_by_worker(running: Iterable[Attempt]) -> HeldSlots:
    """Returns the same for a worker process, whose slots its broker's library counts."""
    held = [it for it in running if not it.ended]
    return HeldSlots("no worker has begun it", held, _OTHER_WORKERS)
