"""A worker process of the arq backend, from its start to its end. See `task_worker`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec

from rail_async_tasks.backends.arq.backend import library, url
from rail_async_tasks.conf import get_settings
from rail_async_tasks.hosting import process, server
from rail_async_tasks.queue_limits import QueueLimits
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.text import counted, noun_for
from rail_async_tasks.workers.arq.worker import TaskWorker
from rail_async_tasks.workers.own import stopped_by_signals

logger = get_logger("rail_async_tasks.backends")


def serve(queues: Sequence[QueueLimits], *, concurrency: int, burst: bool) -> None:
    """Run a worker in this thread until a signal ends it; with `burst`, until nothing waits.

    Raises:
        ConfigurationError: the URL of Redis can't be read.
    """
    factory = None
    if find_spec("uvloop") is not None:
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(aserve(queues, concurrency=concurrency, burst=burst))


async def aserve(queues: Sequence[QueueLimits], *, concurrency: int, burst: bool = False) -> None:
    """`serve`, on the running loop."""
    client = library().connect(url())
    stopped = asyncio.Event()
    with stopped_by_signals(stopped):
        await server.startup(waits=False)
        settings = get_settings()
        worker = TaskWorker(
            client,
            queues,
            concurrency=concurrency,
            threads=settings.max_workers,
            free_threads=_free_threads,
            lease=settings.lease_seconds,
            look=partial(_send_waiting, [queue.name for queue in queues]),
            burst=burst,
        )
        names = ", ".join(queue.name for queue in queues)
        noun, tasks = noun_for(len(queues), "queue"), counted(concurrency, "task")
        logger.info("A worker serves the %s %s, %s at once", noun, names, tasks)
        main = asyncio.ensure_future(worker.main())
        stopping = asyncio.ensure_future(stopped.wait())
        try:
            await asyncio.wait([main, stopping], return_when=asyncio.FIRST_COMPLETED)
            worker.stop_picking()
            await server.drain()
        finally:
            stopping.cancel()
            await worker.finish(main)
            await server.shutdown()
    if main.done() and not main.cancelled():
        main.result()


def _free_threads() -> int:
    runtime = process.current()
    return 0 if runtime is None else runtime.slots.room("", in_thread=True)


async def _send_waiting(queues: Sequence[str]) -> bool:
    return await (await process.aruntime()).send_waiting(queues)
