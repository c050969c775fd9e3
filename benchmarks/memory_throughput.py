"""How much of a bare anyio task group's rate is left when its no-ops are tasks, kept in memory?"""

from __future__ import annotations

import time

import anyio

from benchmarks.harness import Case, Question, Target

TARGET = {"tasks/s": Target(0.6, of_ratio=True)}


async def ours(count: int) -> dict[str, float]:
    """Enqueues all, then waits until the last outcome is kept."""
    from benchmarks.tasks import noop_with_timeout, settled, tally
    from rail_async_tasks.states import Status

    tally.expect(count)
    begun, cpu = time.perf_counter(), time.process_time()
    handles = [await noop_with_timeout.aenqueue() for _ in range(count)]
    await tally.complete()
    await settled()
    metrics = _metrics(count, begun, cpu)
    for handle in handles:
        await handle.arefresh()
    assert {handle.status for handle in handles} == {Status.COMPLETED}
    return metrics


async def bare(count: int) -> dict[str, float]:
    """The same body as children of one task group, each under a timeout."""
    from benchmarks.tasks import noop_with_timeout, tally

    body = noop_with_timeout.definition.function

    async def child() -> None:
        with anyio.fail_after(60):
            await body()

    tally.expect(count)
    begun, cpu = time.perf_counter(), time.process_time()
    async with anyio.create_task_group() as group:
        for _ in range(count):
            group.start_soon(child)
    metrics = _metrics(count, begun, cpu)
    assert tally.count == count
    return metrics


def _metrics(count: int, begun: float, cpu: float) -> dict[str, float]:
    seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - cpu
    return {"tasks/s": count / seconds, "CPU µs/task": cpu_seconds / count * 1e6}


def _case(label: str, loop: str, quick: dict[str, int] | None, slots: int = 100) -> Case:
    return Case(
        label=f"{label}, {loop}",
        measure=f"{__name__}:ours",
        beside=f"{__name__}:bare",
        parameters={"count": 20_000},
        quick=quick,
        loop=loop,
        settings={"track_in_database": False, "max_pending": None, "max_concurrency": slots},
        targets=TARGET,
    )


QUESTION = Question(
    name="memory_throughput",
    title="20,000 no-ops at once, rows in memory",
    beside="the same body in a bare anyio task group, under `fail_after`",
    cases=[
        _case("100 slots", "asyncio", None),
        _case("100 slots", "uvloop", {"count": 300}),
        _case("a slot for each", "asyncio", None, slots=20_000),
        _case("a slot for each", "uvloop", None, slots=20_000),
    ],
)
