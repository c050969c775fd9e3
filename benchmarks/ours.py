"""The package itself as one side of a comparison: in process, and through each backend."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence

from benchmarks import counting
from benchmarks.figures import Metrics
from benchmarks.load import System, by_coroutines, end_to_end
from benchmarks.processes import at_work, running


async def in_process(count: int, producers: int) -> Metrics:
    """Producers and bodies in one process, as in an ASGI server's."""
    _set_up()
    with counting.counter() as counter:
        return await _end_to_end(counter, count=count, producers=producers)


async def arq(count: int, producers: int, workers: int) -> Metrics:
    """Bodies in processes of `manage.py task_worker`."""
    _set_up()
    command = ("-m", "django", "task_worker")
    with counting.counter() as counter, running(command, workers) as pids:
        return await _by_workers(counter, pids, workers, count=count, producers=producers)


async def queue(count: int, producers: int, workers: int, batch: int) -> Metrics:
    """Ids through Redis as the arq backend sends and claims them, `batch` of them at once."""
    _set_up()
    from rail_async_tasks.backends.arq.backend import ArqBackend
    from rail_async_tasks.ids import new_id
    from rail_async_tasks.ledger.dispatch_records import Dispatch

    backend = ArqBackend()

    async def push() -> None:
        await backend.push(
            [Dispatch(new_id(), "counted", "default", 0, number=1) for _ in range(batch)]
        )

    async def produce(number: int, by: int) -> None:
        await by_coroutines(push)(-(-number // batch), by)

    command = ("-m", "benchmarks.queue_worker")
    with counting.counter() as counter, running(command, workers) as pids:
        system = System(produce=produce, workers=pids, processes=workers)
        metrics = await end_to_end(system, counter, count=count, producers=producers)
    await backend.aclose()
    return metrics


async def celery(count: int, producers: int, processes: int, flags: Sequence[str]) -> Metrics:
    """Bodies in a worker of Celery's own command."""
    _set_up()
    command = ("-m", "celery", "-A", "benchmarks.celery_project", "worker", "--loglevel", "ERROR")
    with counting.counter() as counter, running((*command, *flags)) as pids:
        return await _by_workers(counter, pids, processes, count=count, producers=producers)


async def dramatiq(count: int, producers: int, workers: int, threads: int) -> Metrics:
    """Bodies in the processes of `manage.py rundramatiq`."""
    await _set_up_with_tables()
    command = ("-m", "django", "rundramatiq", "--processes", str(workers), "--threads",
               str(threads))  # fmt: skip
    with counting.counter() as counter, running(command) as pids:
        return await _by_workers(counter, pids, workers, count=count, producers=producers)


async def django_q(count: int, producers: int, processes: int) -> Metrics:
    """Bodies in the processes of `manage.py qcluster`."""
    os.environ["BENCHMARK_SLOTS"] = str(processes)
    await _set_up_with_tables()
    with counting.counter() as counter, running(("-m", "django", "qcluster")) as pids:
        return await _by_workers(counter, pids, processes, count=count, producers=producers)


async def bulk(count: int, batch: int) -> Metrics:
    """`aenqueue_many`; delayed, so that no body runs meanwhile in this process."""
    _set_up()
    from benchmarks.tasks import counted
    from rail_async_tasks.models import TaskExecution

    later = counted.using(delay=3600)
    calls = [dict[str, object]() for _ in range(batch)]
    await later.aenqueue_many(calls)
    begun, cpu = time.perf_counter(), time.process_time()
    for _ in range(0, count, batch):
        await later.aenqueue_many(calls)
    seconds, used = time.perf_counter() - begun, time.process_time() - cpu
    assert await TaskExecution.objects.acount() == count + batch
    await _stop()
    return {"rows/s": count / seconds, "CPU µs/row": used / count * 1e6}


async def _by_workers(
    counter: counting.Counter, pids: list[int], processes: int, *, count: int, producers: int
) -> Metrics:
    from rail_async_tasks.hosting import process as host

    await host.aruntime()
    await at_work(1)
    return await _end_to_end(
        counter, pids=pids, processes=processes, count=count, producers=producers
    )


async def _end_to_end(
    counter: counting.Counter,
    *,
    pids: Sequence[int] = (),
    processes: int = 1,
    count: int,
    producers: int,
) -> Metrics:
    from benchmarks.tasks import counted
    from rail_async_tasks.models import TaskExecution

    completed = TaskExecution.objects.filter(status="completed")
    unfinished = TaskExecution.objects.exclude(status="completed")

    async def finished() -> bool:
        return not await unfinished.aexists()

    system = System(
        produce=by_coroutines(counted.aenqueue),
        finished=finished,
        workers=pids,
        processes=processes,
    )
    metrics = await end_to_end(system, counter, count=count, producers=producers)
    assert await completed.acount() == counter.total()
    await _stop()
    return metrics


async def _set_up_with_tables() -> None:
    """With the tables of the backend's own app."""
    _set_up()
    from django.core.management import call_command

    await asyncio.to_thread(call_command, "migrate", verbosity=0, skip_checks=True)


def _set_up() -> None:
    import django

    django.setup()


async def _stop() -> None:
    from rail_async_tasks.hosting import process as host

    await host.astop()
