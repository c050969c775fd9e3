"""Celery, Dramatiq and Django-Q through us, beside themselves bare and with their own results."""

from __future__ import annotations

from typing import Any

from benchmarks.comparison import Comparison, Side
from benchmarks.harness import Question

BARE = "keeps no row: in its favour"
RESULTS = "writes one row, when a task has ended; ours are there from the start, and change twice"
# What a Celery worker alone needs none of.
CELERY = ("--without-gossip", "--without-mingle", "--without-heartbeat")


def _ours(backend: str, *, settings: dict[str, Any] | None = None, **parameters: Any) -> Side:
    return Side(
        label=f"through rail_async_tasks, {backend}, tracked",
        measure=f"benchmarks.ours:{backend}",
        parameters={"count": 3_000, "producers": 100, **parameters},
        settings={"backend": backend, "max_pending": None, **(settings or {})},
    )


def _theirs(label: str, function: str, note: str, **parameters: Any) -> Side:
    return Side(
        label=label,
        measure=f"benchmarks.peers.{function}",
        peer=function.partition(":")[0],
        parameters=parameters,
        note=note,
    )


def _case(label: str, *sides: Side, quick: bool = False) -> Comparison:
    return Comparison(
        label=label,
        sides=sides,
        parameters={"count": 2_000, "producers": 2},
        quick={"count": 30, "producers": 2} if quick else None,
        database="postgres-flushed",
        redis=True,
        targets={"bare": 0.6, "with its own": 4.0},
    )


def _celery(label: str, processes: int, *flags: str, quick: bool = False) -> Comparison:
    app = {"celery_app": "benchmarks.celery_project.app"}
    flags = (*flags, *CELERY)
    return _case(
        f"Celery, {label}",
        _ours("celery", settings=app, processes=processes, flags=flags),
        _theirs("bare Celery", "celery:untracked", BARE, workers=processes, flags=flags),
        _theirs("with its own results: django-celery-results", "celery:tracked", RESULTS,
                workers=processes, flags=flags),
        quick=quick,
    )  # fmt: skip


def _django_q(workers: int) -> Comparison:
    return _case(
        f"Django-Q, {workers} workers",
        _ours("django_q", processes=workers),
        _theirs("bare Django-Q", "django_q:enqueued", BARE, processes=workers, results=False),
        _theirs("with its own results in the database", "django_q:enqueued", RESULTS,
                processes=workers, results=True),
    )  # fmt: skip


QUESTION = Question(
    name="peers_brokers",
    short="Celery, Dramatiq, Django-Q",
    title="No-ops through Celery, Dramatiq and Django-Q, each enqueued by itself, end to end",
    beside="the same worker command, pool and slots without us",
    cases=[
        _celery("8 threads", 1, "--pool", "threads", "--concurrency", "8", quick=True),
        _celery("prefork, 2 processes", 2, "--concurrency", "2"),
        _case(
            "Dramatiq, 1 process of 8 threads",
            _ours("dramatiq", workers=1, threads=8),
            _theirs("bare Dramatiq", "dramatiq:untracked", BARE, workers=1, threads=8),
        ),
        _django_q(2),
        _django_q(8),
    ],
    repeats=3,
)
