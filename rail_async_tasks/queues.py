"""Queues at run time: `from rail_async_tasks import queues`.

A paused queue accepts tasks and starts none, in every process and under every backend, within two
seconds of the pause. Tasks that run go on to their end. The pause is kept in the database: it
outlasts the process that has made it. The calls join the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Sequence

from rail_async_tasks.hosting import process
from rail_async_tasks.service import queues as service
from rail_async_tasks.service.queues import Queue
from rail_async_tasks.service.read import on_ledger

__all__ = ["Queue", "alist", "apause", "aresume", "list", "pause", "resume"]


def pause(queue: str, *, by: str | None = None) -> bool:
    """Starts no task of the queue any more; returns False if it is paused already.

    Args:
        queue: a queue of the settings or of a declaration, or one that has unfinished tasks.
        by: who pauses it, for `list()` and the audit: a user's id, or another text of at most 255
            characters. Default: "system".

    Raises:
        UnknownQueue: there is no such queue; the message names those that there are.
        InvalidArguments: `by` can't be stored.
    """
    return service.pause(process.ledger(), queue, by)


def resume(queue: str, *, by: str | None = None) -> bool:
    """Starts what waits in the queue, at once; returns False if it is not paused.

    Under the `sync` backend the tasks run here, before the call returns. Arguments and errors are
    those of `pause`.
    """
    return service.resume(process.ledger(), queue, by)


def list() -> Sequence[Queue]:  # noqa: A001 (the contract's name)
    """Returns all queues, the highest priority first, as they stand."""
    return service.list_queues(process.ledger())


async def apause(queue: str, *, by: str | None = None) -> bool:
    """`pause` for code on an event loop."""
    return await on_ledger(lambda ledger: service.pause(ledger, queue, by))


async def aresume(queue: str, *, by: str | None = None) -> bool:
    """`resume` for code on an event loop."""
    return await on_ledger(lambda ledger: service.resume(ledger, queue, by))


async def alist() -> Sequence[Queue]:
    """`list` for code on an event loop."""
    return await on_ledger(service.list_queues)
