"""What does a process cost that has nothing to do?"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.harness import Case, Question
from benchmarks.processes import running

# Seconds until a process that has started is quiet, at most, and PostgreSQL has counted its start.
SETTLE = 25.0
# No ratio to nothing: less than one transaction in a hundred seconds.
NOTHING = 0.01


def web(count: int) -> dict[str, float]:
    """uvicorn with our application, for `count` seconds."""
    return _measured(_server("benchmarks.asgi:application"), count)


def plain_web(count: int) -> dict[str, float]:
    """uvicorn with Django's own application."""
    return _measured(_server("benchmarks.asgi:plain"), count)


def worker(count: int) -> dict[str, float]:
    """`manage.py task_worker`."""
    return _measured(("-m", "django", "task_worker"), count)


def plain_worker(count: int) -> dict[str, float]:
    """arq's own worker, at its defaults."""
    return _measured(("-m", "arq", "benchmarks.bare_arq.WorkerSettings"), count)


def _server(application: str) -> tuple[str, ...]:
    options = ("--port", "0", "--log-level", "warning", "--lifespan", "auto")
    return ("-m", "uvicorn", application, *options)


def _measured(command: Sequence[str], count: int) -> dict[str, float]:
    with running(command, 1) as (pid,), _counter() as transactions:
        time.sleep(min(SETTLE, count))
        begun, before = time.perf_counter(), (_use(pid), transactions())
        time.sleep(count)
        seconds, after = time.perf_counter() - begun, (_use(pid), transactions())
    cpu, wake_ups = (b - a for a, b in zip(before[0], after[0], strict=True))
    return {
        "CPU ‰ of a core": max(cpu / seconds * 1000, NOTHING),
        "wake-ups/s": max(wake_ups / seconds, NOTHING),
        "transactions/s": max((after[1] - before[1]) / seconds, NOTHING),
    }


def _use(pid: int) -> tuple[float, int]:
    """Returns the CPU seconds of a process so far, and how often its threads have slept."""
    nanoseconds = sleeps = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        nanoseconds += int((thread / "schedstat").read_text().split()[0])
        status = (thread / "status").read_text()
        sleeps += int(status.rpartition("\nvoluntary_ctxt_switches:")[2].split()[0])
    return nanoseconds / 1e9, sleeps


@contextmanager
def _counter() -> Iterator[Callable[[], int]]:
    """Yields what returns the transactions of the sample's database, without its own."""
    if os.environ["TEST_DATABASE"] != "postgres":
        yield lambda: 0  # SQLite counts none
        return
    reads = 0
    with psycopg.connect(os.environ["TEST_DATABASE_URL"], autocommit=True) as connection:

        def count() -> int:
            nonlocal reads
            found = connection.execute(
                "SELECT xact_commit + xact_rollback FROM pg_stat_database"
                " WHERE datname = current_database()"
            ).fetchone()
            assert found is not None
            reads += 1
            return int(found[0]) - reads + 1

        yield count


def _case(label: str, measure: str, **more: Any) -> Case:
    return Case(
        label=label,
        measure=f"{__name__}:{measure}",
        beside=f"{__name__}:plain_{measure}",
        parameters={"count": 40},
        **more,
    )


QUESTION = Question(
    name="idle",
    title="A process with nothing to do",
    beside="Django's application on the same server; arq's own worker",
    cases=[
        _case("web, PostgreSQL", "web", database="postgres"),
        _case("web, SQLite", "web", database="sqlite", quick={"count": 1}),
        _case(
            "arq worker, PostgreSQL", "worker", database="postgres", redis=True,
            settings={"backend": "arq"},
        ),
    ],
    repeats=3,
)  # fmt: skip
