"""How many no-ops a second go through the workers of Celery, Dramatiq and Django-Q?"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from benchmarks.harness import Case, Question
from benchmarks.processes import at_work, cpu_seconds, family, running

PRODUCERS = 100
SLOTS = 8
# The same command on both sides.
WORKERS: Final = {
    "celery": (
        "-m", "celery", "-A", "benchmarks.celery_app", "worker", "--pool=threads",
        f"--concurrency={SLOTS}", "--loglevel=ERROR", "--without-gossip", "--without-mingle",
    ),
    "dramatiq": ("-m", "django", "rundramatiq", "--processes=1", f"--threads={SLOTS}"),
    "django_q": ("-m", "django", "qcluster"),
}  # fmt: skip
# Processes with a runtime of their own.
RUNTIMES: Final = {"celery": 1, "dramatiq": 1, "django_q": SLOTS}


async def ours(count: int, backend: str) -> dict[str, float]:
    """Through us, tracked: until every row is completed."""
    from benchmarks.tasks import noop
    from rail_async_tasks.hosting import process as host
    from rail_async_tasks.models import TaskExecution

    with running(WORKERS[backend], 1) as pids:
        await host.aruntime()
        await at_work(RUNTIMES[backend])
        await (await noop.aenqueue()).aresult(60)
        left = iter(range(count))

        async def produce() -> None:
            for _ in left:
                await noop.aenqueue()

        begun, cpu, theirs = time.perf_counter(), time.process_time(), cpu_seconds(family(pids))
        async with asyncio.TaskGroup() as group:
            for _ in range(PRODUCERS):
                group.create_task(produce())
        unfinished = TaskExecution.objects.exclude(status="completed")
        while await unfinished.aexists():  # noqa: ASYNC110 - the rows are other processes' work
            await asyncio.sleep(0.02)
        metrics = _metrics(count, begun, cpu, cpu_seconds(family(pids)) - theirs)
        await host.astop()
    return metrics


def bare(count: int, backend: str) -> dict[str, float]:
    """The framework by itself: sent one after the other, until each body has run."""
    return _bare(count, backend, stored=False)


def stored(count: int, backend: str) -> dict[str, float]:
    """The same, where the framework keeps results or its own records in the database."""
    return _bare(count, backend, stored=True)


def _bare(count: int, backend: str, *, stored: bool) -> dict[str, float]:
    os.environ |= {"BENCHMARK_FRAMEWORK": backend, "BENCHMARK_TASK_SETTINGS": "{}"}
    import django

    django.setup()
    with _count_file(), running(WORKERS[backend], 1) as pids:
        send = _sender(backend, stored=stored)
        send()
        _until(1)
        begun, cpu, theirs = time.perf_counter(), time.process_time(), cpu_seconds(family(pids))
        for _ in range(count):
            send()
        _until(count + 1)
        return _metrics(count, begun, cpu, cpu_seconds(family(pids)) - theirs)


def _sender(backend: str, *, stored: bool) -> Callable[[], object]:
    """Returns a function that sends one no-op; `stored`: with its record in the database."""
    if backend == "celery":
        from benchmarks import celery_app

        return celery_app.noop.delay
    if backend == "dramatiq":
        from benchmarks import bare_actors

        return bare_actors.noop.send
    from django_q.tasks import async_task

    return lambda: async_task("benchmarks.bare_tasks.noop", save=stored)


@contextmanager
def _count_file() -> Iterator[None]:
    with tempfile.NamedTemporaryFile() as file:
        os.environ["BENCHMARK_COUNT_FILE"] = file.name
        yield


def _until(count: int) -> None:
    from benchmarks import bare_tasks

    while bare_tasks.ended() < count:
        time.sleep(0.005)


def _metrics(count: int, begun: float, cpu: float, theirs: float) -> dict[str, float]:
    seconds, here = time.perf_counter() - begun, time.process_time() - cpu
    return {
        "tasks/s": count / seconds,
        "web CPU µs/task": here / count * 1e6,
        "worker CPU µs/task": max(theirs, 0.01) / count * 1e6,
    }


def _cases() -> list[Case]:
    more: dict[str, dict[str, Any]] = {"celery": {"celery_app": "benchmarks.celery_app.app"}}
    return [
        Case(
            label=f"{backend}, {SLOTS} slots",
            measure=f"{__name__}:ours",
            beside=f"{__name__}:bare",
            parameters={"count": 2_000, "backend": backend},
            database="postgres-flushed",
            redis=True,
            settings={"backend": backend, "max_pending": None, **more.get(backend, {})},
        )
        for backend in WORKERS
    ]


QUESTION = Question(
    name="broker_backends",
    title="2,000 no-ops by workers of Celery, Dramatiq and Django-Q, rows in PostgreSQL",
    beside="the framework by itself, which keeps nothing: the same pool, slots and Redis",
    cases=_cases(),
    repeats=3,
)
