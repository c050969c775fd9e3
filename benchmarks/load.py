"""The load that every compared system gets: producers in a closed loop, until all is finished."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from benchmarks.counting import Counter
from benchmarks.figures import Metrics
from benchmarks.processes import cpu_seconds, ended, family

START_TIMEOUT = 60.0  # seconds until every worker process has run a body
WARM_UP_BATCH = 64

Produce = Callable[[int, int], Awaitable[None]]


async def _nothing_to_wait_for() -> bool:
    return True


@dataclass(frozen=True, kw_only=True)
class System:
    """A task system at work.

    Args:
        produce: enqueues so many tasks, each by itself, by so many producers.
        finished: whether its store has nothing unfinished, where it keeps such a store.
        workers: the worker processes that were started; their children count too.
        processes: how many processes run bodies.
    """

    produce: Produce
    finished: Callable[[], Awaitable[bool]] = _nothing_to_wait_for
    workers: Sequence[int] = ()
    processes: int = 1


def by_coroutines(enqueue: Callable[[], Awaitable[object]]) -> Produce:
    """Each producer awaits one enqueue before it starts the next."""

    async def produce(count: int, producers: int) -> None:
        left = iter(range(count))

        async def one() -> None:
            for _ in left:
                await enqueue()

        async with asyncio.TaskGroup() as group:
            for _ in range(min(producers, count)):
                group.create_task(one())

    return produce


def by_threads(enqueue: Callable[[], object]) -> Produce:
    """The same for a system whose enqueue blocks: each producer is a thread."""

    async def produce(count: int, producers: int) -> None:
        def one(share: int) -> None:
            for _ in range(share):
                enqueue()

        shares = [len(range(first, count, producers)) for first in range(producers)]
        with ThreadPoolExecutor(producers) as threads:
            loop = asyncio.get_running_loop()
            await asyncio.gather(*(loop.run_in_executor(threads, one, n) for n in shares))

    return produce


async def end_to_end(system: System, counter: Counter, *, count: int, producers: int) -> Metrics:
    """From the first enqueue until every body has run, and the store knows it."""
    await _warm_up(system, counter, count // 10, producers)
    pids = family(system.workers)
    before, theirs, cpu = counter.total(), cpu_seconds(pids), time.process_time()
    begun = time.perf_counter()
    await system.produce(count, producers)
    enqueued = time.perf_counter()
    await counter.reaches(before + count)
    await _until_finished(system)
    ended = time.perf_counter()
    used = time.process_time() - cpu + cpu_seconds(pids) - theirs
    ran = counter.total() - before
    # Who promises "at least once" may run one again, when a worker starts for instance.
    assert count <= ran <= count * 1.01, f"{ran} bodies for {count} tasks"
    return {
        "tasks/s": count / (ended - begun),
        "enqueued/s": count / (enqueued - begun),
        "CPU µs/task": used / count * 1e6,
    }


async def _warm_up(system: System, counter: Counter, least: int, producers: int) -> None:
    """Runs some tasks, until every worker process has run one."""
    sent = counter.total()
    async with asyncio.timeout(START_TIMEOUT):
        while not sent or sent < least or counter.processes() < system.processes:
            batch = max(least - sent, WARM_UP_BATCH)
            await system.produce(batch, producers)
            sent += batch
            while counter.total() < sent:
                if ended(system.workers):
                    raise RuntimeError("A worker has ended by itself.")
                await asyncio.sleep(0.01)
        await _until_finished(system)


async def _until_finished(system: System) -> None:
    while not await system.finished():  # noqa: ASYNC110 - the rows are other processes' work
        await asyncio.sleep(0.01)
