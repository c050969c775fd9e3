"""How much do more processes on one database bring?"""

from __future__ import annotations

import asyncio
import sys
import time

from asgiref.sync import sync_to_async

from benchmarks.harness import Case, Question
from benchmarks.processes import cpu_seconds, running


async def drain(count: int, processes: int) -> dict[str, float]:
    """So many processes run what waits, until every row is completed."""
    from benchmarks import rows
    from rail_async_tasks.models import TaskExecution, TaskRuntime

    first = max(count // 10, 1)
    await TaskExecution.objects.all().adelete()
    await TaskRuntime.objects.all().adelete()
    with running(("-m", "benchmarks.processes_on_one_database"), processes) as pids:
        alive = TaskRuntime.objects.filter(dead=False)
        while await alive.acount() < processes:  # noqa: ASYNC110 - other processes' rows
            await asyncio.sleep(0.02)
        await sync_to_async(rows.waiting)(first)
        await _completed(first)
        begun, cpu = time.perf_counter(), cpu_seconds(pids)
        await sync_to_async(rows.waiting)(count)
        await _completed(first + count)
        seconds, used = time.perf_counter() - begun, cpu_seconds(pids) - cpu
    return {"tasks/s": count / seconds, "CPU µs/task": max(used, 0.01) / count * 1e6}


async def drain_by_one(count: int, processes: int) -> dict[str, float]:
    """One process runs the same."""
    return await drain(count, 1)


async def _completed(count: int) -> None:
    from rail_async_tasks.models import TaskExecution

    waiting = TaskExecution.objects.filter(status__in=("pending", "running", "retrying"))
    while await waiting.aexists():  # noqa: ASYNC110 - other processes' work
        await asyncio.sleep(0.02)
    assert await TaskExecution.objects.filter(status="completed").acount() == count


def _case(processes: int, *, quick: bool = False) -> Case:
    return Case(
        label=f"{processes} processes" if processes > 1 else "1 process",
        measure=f"{__name__}:drain",
        beside=f"{__name__}:drain_by_one",
        parameters={"count": 20_000, "processes": processes},
        quick={"count": 50, "processes": 1} if quick else None,
        database="postgres-flushed",
        settings={"max_pending": None},
    )


QUESTION = Question(
    name="processes_on_one_database",
    title="20,000 waiting no-ops by 1, 2, 4 and 8 processes on one PostgreSQL",
    beside="one process",
    cases=[_case(1), _case(2, quick=True), _case(4), _case(8)],
    repeats=3,
)


def _serve() -> None:
    """One of the processes: runs what waits until it is terminated."""
    import django

    django.setup()
    import uvloop

    from rail_async_tasks.hosting import process as host

    async def serve() -> None:
        import signal

        over = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
        await host.aruntime()
        await over.wait()
        await host.astop()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


if __name__ == "__main__":
    sys.exit(_serve())
