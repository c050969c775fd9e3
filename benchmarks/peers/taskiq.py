"""taskiq on Redis: `taskiq worker MODULE:broker` in processes of its own."""

from __future__ import annotations

import os

from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend, RedisStreamBroker

from benchmarks import counting
from benchmarks.load import System, by_coroutines, end_to_end
from benchmarks.processes import running

URL = os.environ["BENCHMARK_REDIS"]
# With acknowledgements, and results that expire.
documented = RedisStreamBroker(url=URL).with_result_backend(
    RedisAsyncResultBackend(redis_url=URL, result_ex_time=1000)
)
# Without either.
tuned = ListQueueBroker(url=URL)


async def noop() -> None:
    counting.add()


for each in (documented, tuned):
    each.register_task(noop, "noop")


async def untracked(count: int, producers: int, workers: int, kind: str) -> dict[str, float]:
    """`kind`: `documented` or `tuned`."""
    broker = tuned if kind == "tuned" else documented
    command = ("-m", "taskiq", "worker", f"{__name__}:{kind}", "--workers", str(workers),
               "--log-level", "ERROR", "--max-async-tasks", "100")  # fmt: skip
    with counting.counter() as counter, running(command) as pids:
        await broker.startup()
        system = System(
            produce=by_coroutines(broker.find_task("noop").kiq), workers=pids, processes=workers
        )
        try:
            return await end_to_end(system, counter, count=count, producers=producers)
        finally:
            await broker.shutdown()
