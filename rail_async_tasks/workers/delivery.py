"""Runs in a worker the execution whose id a broker has brought."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any
from uuid import UUID

from rail_async_tasks.hosting import process
from rail_async_tasks.ids import parse_id
from rail_async_tasks.roles import become_worker
from rail_async_tasks.runtime.claims.deliveries import Deliveries, Delivery
from rail_async_tasks.safe_logging import get_logger

if TYPE_CHECKING:
    from rail_async_tasks.runtime.runtime import Runtime

logger = get_logger("rail_async_tasks.backends")


def deliver(execution_id: Any) -> None:
    """Run the next attempt of an execution that a broker has brought; returns at its end.

    For a worker's own thread or process: the attempt runs on the runtime's loop, which the first
    delivery starts. A value that is no id, or that this worker may not run, is logged and dropped.
    Raises nothing that a broker should retry: the row says what comes next.
    """
    become_worker()
    runtime = process.runtime_in_thread()
    deliveries = _deliveries(runtime)
    parsed = _checked(execution_id)
    if deliveries is not None and parsed is not None:
        over = threading.Lock()  # a Future with its Condition would take several times as long
        over.acquire()
        delivery = Delivery(lambda ran: over.release())
        runtime.loop.call_soon_threadsafe(deliveries.bring, parsed, delivery)
        over.acquire()


def bring(execution_id: Any, over: Callable[[], None], freed: Callable[[], None]) -> bool:
    """`deliver` as a plain call on the runtime's loop.

    Returns False, and does nothing, where no runtime is ready on the running loop: `adeliver`
    starts one, or waits for it.

    Args:
        over: is called at the end, when the outcome is stored or nothing was run.
        freed: is called when the body has ended, before its outcome is stored.
    """
    runtime = process.current()
    here = asyncio.get_running_loop()
    if runtime is None or runtime.loop is not here or not runtime.is_ready:
        return False
    become_worker()
    deliveries = _deliveries(runtime)
    parsed = _checked(execution_id)
    if deliveries is None or parsed is None:
        over()
    else:
        deliveries.bring(parsed, Delivery(lambda ran: over(), freed))
    return True


async def adeliver(execution_id: Any) -> None:
    """`deliver` on the loop of a worker that is async itself, which hosts the runtime."""
    become_worker()
    runtime = await process.aruntime()
    deliveries = _deliveries(runtime)
    parsed = _checked(execution_id)
    if deliveries is not None and parsed is not None:
        await process.across(runtime, deliveries.attempt(parsed))


def begin_drain() -> None:
    """Begin to drain: running attempts get `drain_seconds`. Returns at once.

    From any thread, and from a signal handler. `deliver` then returns when an attempt has ended or
    is handed back; later deliveries are left to other workers.
    """
    global _drain
    runtime = process.current()
    if runtime is not None and not runtime.draining:
        _drain = asyncio.run_coroutine_threadsafe(runtime.drain(), runtime.loop)


_drain: Future[None] | None = None  # a reference, or the drain might be garbage-collected


def _checked(execution_id: Any) -> UUID | None:
    parsed = parse_id(execution_id) if isinstance(execution_id, str) else None
    if parsed is None:
        # Anyone with access to the broker may write anything; only an id is taken from it.
        logger.warning("A broker has brought %.80r, which is no task's id; it is dropped",
                       execution_id)  # fmt: skip
    return parsed


def _deliveries(runtime: Runtime) -> Deliveries | None:
    if runtime.deliveries is None:
        logger.error(
            'A broker has brought a task to a process whose setting "backend" names no broker;'
            " it is left to others."
        )
    return runtime.deliveries
