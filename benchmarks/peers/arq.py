"""arq alone: `arq SETTINGS` in processes of its own."""

from __future__ import annotations

import os
from typing import Any

from arq.connections import RedisSettings, create_pool

from benchmarks import counting
from benchmarks.bare_arq import LOGGING, QUEUE, dumps, loads
from benchmarks.load import System, by_coroutines, end_to_end
from benchmarks.processes import running

__all__ = ["LOGGING", "Documented", "Tuned", "untracked"]


async def noop(ctx: dict[str, Any]) -> None:
    counting.add()


class Documented:
    """The settings of a worker as the documentation begins: functions, and the rest as it is."""

    functions = (noop,)
    redis_settings = RedisSettings.from_dsn(os.environ.get("BENCHMARK_REDIS", "redis://localhost"))
    queue_name = QUEUE


class Tuned:
    """arq reads the class itself alone, not what it inherits."""

    functions = Documented.functions
    redis_settings = Documented.redis_settings
    queue_name = QUEUE
    job_serializer = staticmethod(dumps)
    job_deserializer = staticmethod(loads)
    keep_result = 0
    max_jobs = 100
    poll_delay = 0.02


async def untracked(count: int, producers: int, workers: int, tuned: bool) -> dict[str, float]:
    pool = await create_pool(
        Documented.redis_settings,
        job_serializer=dumps if tuned else None,
        job_deserializer=loads if tuned else None,
        default_queue_name=QUEUE,
    )
    name = "Tuned" if tuned else "Documented"
    command = ("-m", "arq", f"{__name__}.{name}", "--custom-log-dict", f"{__name__}.LOGGING")
    with counting.counter() as counter, running(command, workers) as pids:

        async def finished() -> bool:
            return not await pool.zcard(QUEUE)

        system = System(
            produce=by_coroutines(lambda: pool.enqueue_job("noop")),
            finished=finished,
            workers=pids,
            processes=workers,
        )
        metrics = await end_to_end(system, counter, count=count, producers=producers)
    await pool.aclose()
    return metrics
