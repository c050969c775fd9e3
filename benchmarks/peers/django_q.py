"""Django-Q2 on Redis: `manage.py qcluster` in processes of its own."""

from __future__ import annotations

import json
import os

from benchmarks import counting
from benchmarks.load import System, by_threads, end_to_end
from benchmarks.peers.django_app import none_left, set_up
from benchmarks.processes import running


def noop() -> None:
    counting.add()


async def enqueued(count: int, producers: int, processes: int, results: bool) -> dict[str, float]:
    """With `results` a row per task, when it has ended; without, none for a success."""
    os.environ["PEER_Q_CLUSTER"] = json.dumps(
        {
            "name": "bare",
            "redis": os.environ["BENCHMARK_REDIS"],
            "workers": processes,
            "timeout": 60,
            "retry": 120,
            "save_limit": 0 if results else -1,
            "log_level": "ERROR",
        }
    )
    await set_up("django_q")
    from django_q.tasks import async_task

    command = ("-m", "django", "qcluster")
    with counting.counter() as counter, running(command) as pids:

        async def finished() -> bool:
            if not results:
                return True
            query = f"SELECT 1 FROM django_q_task HAVING count(*) >= {counter.total()}"
            return not await none_left(query)

        system = System(
            produce=by_threads(lambda: async_task("benchmarks.peers.django_q.noop")),
            finished=finished,
            workers=pids,
            processes=processes,
        )
        return await end_to_end(system, counter, count=count, producers=producers)
