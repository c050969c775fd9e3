"""Celery on Redis: `celery worker`, without results and with django-celery-results."""

from __future__ import annotations

import os
from collections.abc import Sequence

from celery import Celery

from benchmarks import counting
from benchmarks.load import System, by_threads, end_to_end
from benchmarks.peers.django_app import none_left, set_up
from benchmarks.processes import running

app = Celery("bare", broker=os.environ["BENCHMARK_REDIS"])
# With an app of Django's the worker keeps results there; see `tracked`.
if os.environ.get("PEER_APPS"):
    app.config_from_object("django.conf:settings", namespace="CELERY")


@app.task
def noop() -> None:
    counting.add()


async def untracked(
    count: int, producers: int, workers: int, flags: Sequence[str]
) -> dict[str, float]:
    """`workers`: how many processes run bodies."""
    app.conf.task_ignore_result = True
    command = ("-m", "celery", "-A", __name__, "worker", "--loglevel", "ERROR", *flags)
    with counting.counter() as counter, running(command) as pids:
        system = System(produce=by_threads(noop.delay), workers=pids, processes=workers)
        return await end_to_end(system, counter, count=count, producers=producers)


async def tracked(
    count: int, producers: int, workers: int, flags: Sequence[str]
) -> dict[str, float]:
    """With django-celery-results: a row per task, when it has ended."""
    await set_up("django_celery_results")
    app.config_from_object("django.conf:settings", namespace="CELERY")
    app.conf.broker_url = os.environ["BENCHMARK_REDIS"]
    command = ("-m", "celery", "-A", __name__, "worker", "--loglevel", "ERROR", *flags)
    with counting.counter() as counter, running(command) as pids:

        async def finished() -> bool:
            query = (
                "SELECT 1 FROM django_celery_results_taskresult WHERE status = 'SUCCESS'"
                f" HAVING count(*) >= {counter.total()}"
            )
            return not await none_left(query)

        system = System(
            produce=by_threads(noop.delay), finished=finished, workers=pids, processes=workers
        )
        return await end_to_end(system, counter, count=count, producers=producers)
