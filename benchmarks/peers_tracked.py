"""Tracked in PostgreSQL, each enqueued by itself, end to end: beside others that keep a row."""

from __future__ import annotations

from typing import Any

from benchmarks.comparison import Comparison, Side
from benchmarks.harness import Question

PEERS = "benchmarks.peers"
COUNT = 10_000
OWN_PROCESS = "runs in a process of its own, so it has a second core: in its favour here"


def _peer(label: str, peer: str, note: str = "the same", **parameters: Any) -> Side:
    return Side(
        label=label, measure=f"{PEERS}.{peer}:tracked", peer=peer, parameters=parameters, note=note
    )


OURS = Side(
    label="rail_async_tasks",
    measure="benchmarks.ours:in_process",
    settings={"max_pending": None},
    note="claims, outcomes and progress by two writers",
)
# What users compare first is first.
TUNED = (
    _peer("Oban, tuned", "oban", count=6_000, limit=100, connections=20),
    _peer("pgqueuer, tuned", "pgqueuer", "deletes the finished row and logs it", count=6_000,
          batch=100, pooled=True),
    _peer("procrastinate, tuned", "procrastinate", count=2_000, concurrency=100, connections=20),
    _peer("chancy, tuned", "chancy", "the row is final up to 1 s after the body", count=4_000,
          concurrency=100, eager=True, polling=1, connections=20),
    _peer("django-tasks-db, 2 workers", "django_tasks_db", OWN_PROCESS, count=600, workers=2,
          interval="0.01"),
)  # fmt: skip
DOCUMENTED = (
    _peer("Oban, as documented", "oban", count=6_000, limit=10, connections=10),
    _peer("pgqueuer, as documented", "pgqueuer", "deletes the finished row and logs it",
          count=3_000, batch=10, pooled=False),
    _peer("procrastinate, as documented", "procrastinate", count=1_000, concurrency=1,
          connections=10),
    _peer("chancy, as documented", "chancy", "a queue of 10 is filled on a push, else every 5 s",
          count=200, concurrency=10, eager=False, polling=5, connections=10),
    _peer("django-tasks-db, 1 worker", "django_tasks_db", OWN_PROCESS, count=400, workers=1,
          interval="1"),
)  # fmt: skip


def _case(producers: int, *others: Side, quick: bool = False) -> Comparison:
    return Comparison(
        label=f"{producers:,} producers",
        sides=(OURS, *others),
        parameters={"count": COUNT, "producers": producers},
        quick={"count": 100, "producers": 10} if quick else None,
        database="postgres-flushed",
        targets={"Oban": 3.0},
    )


QUESTION = Question(
    name="peers_tracked",
    short="Tracked in PostgreSQL",
    title="No-ops tracked in PostgreSQL, each enqueued by itself, until every row is final",
    beside="other task systems that keep a row for each task, in one process with the producers",
    cases=[
        _case(10, *TUNED, *DOCUMENTED, quick=True),
        _case(100, *TUNED[:4]),
        _case(1_000, *TUNED[:2]),
    ],
    repeats=3,
)
