"""A worker process of the arq backend, from its start to its end. See `task_worker`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from types import FrameType

from rail_async_tasks.backends.arq.backend import library, url
from rail_async_tasks.backends.arq.worker import TaskWorker
from rail_async_tasks.conf import get_settings
from rail_async_tasks.runtime import host
from rail_async_tasks.runtime.slots import QueueLimits

logger = logging.getLogger("rail_async_tasks.backends")


def serve(queues: Sequence[QueueLimits], *, concurrency: int, burst: bool) -> None:
    """Runs a worker in this thread until a signal ends it; with `burst`, until nothing waits.

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
    with _told_by_signals(stopped):
        await host.startup()
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
        logger.info("A worker serves the queues %s, %d tasks at once", names, concurrency)
        main = asyncio.ensure_future(worker.main())
        stopping = asyncio.ensure_future(stopped.wait())
        try:
            await asyncio.wait([main, stopping], return_when=asyncio.FIRST_COMPLETED)
            worker.stop_picking()
            await host.drain()
        finally:
            stopping.cancel()
            await worker.finish(main)
            await host.shutdown()
    if main.done() and not main.cancelled():
        main.result()


def _free_threads() -> int:
    runtime = host.current()
    return 0 if runtime is None else runtime.slots.room("", in_thread=True)


async def _send_waiting(queues: Sequence[str]) -> bool:
    return await (await host.aruntime()).send_waiting(queues)


@contextmanager
def _told_by_signals(stopped: asyncio.Event) -> Iterator[None]:
    """SIGTERM and Ctrl-C begin the drain. Another Ctrl-C is from a person who does not wait."""
    loop = asyncio.get_running_loop()
    interrupted = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        host.exit_in_time()
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(stopped.set)
            if interrupted and number == signal.SIGINT:
                loop.call_soon_threadsafe(host.hurry)
        interrupted |= number == signal.SIGINT

    try:
        before = {it: signal.signal(it, handle) for it in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not the main thread: whoever runs it there ends it
        before = {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
