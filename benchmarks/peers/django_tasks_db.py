"""django-tasks-db: `manage.py db_worker` in a process of its own."""

from __future__ import annotations

from benchmarks import counting
from benchmarks.load import System, by_threads, end_to_end
from benchmarks.peers.django_app import none_left, set_up
from benchmarks.processes import running

APPS = ("django_tasks", "django_tasks_db")
UNFINISHED = (
    "SELECT 1 FROM django_tasks_database_dbtaskresult WHERE status IN ('READY', 'RUNNING') LIMIT 1"
)


async def tracked(count: int, producers: int, workers: int, interval: str) -> dict[str, float]:
    await set_up(*APPS)
    from benchmarks.peers.django_tasks_db_tasks import noop

    command = ("-m", "django", "db_worker", "--interval", interval, "--no-startup-delay",
               "--no-reload", "--verbosity", "0")  # fmt: skip
    with counting.counter() as counter, running(command, workers) as pids:
        system = System(
            produce=by_threads(noop.enqueue),
            finished=lambda: none_left(UNFINISHED),
            workers=pids,
            processes=workers,
        )
        return await end_to_end(system, counter, count=count, producers=producers)
