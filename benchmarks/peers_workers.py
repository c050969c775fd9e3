"""Worker processes through Redis, end to end: ours with rows in PostgreSQL, the others without."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from benchmarks.comparison import Comparison, Side
from benchmarks.harness import Question

LESS = "keeps nothing of a task but in Redis: in its favour"
NOTHING = "keeps nothing of a task once it has run: in its favour"

OURS = Side(
    label="rail_async_tasks, arq, tracked",
    measure="benchmarks.ours:arq",
    settings={"backend": "arq", "max_pending": None},
)


# The way through Redis alone, beside queues without rows.
FASTEST = ("saq", "arq", "taskiq")
QUEUE = Side(
    label="the queue of the arq backend, no rows",
    measure="benchmarks.ours:queue",
    parameters={"count": 30_000, "batch": 1},
    settings={"backend": "arq"},
    note="ids go to Redis and back; no attempt: in its favour",
)
BATCHES = replace(
    QUEUE,
    label="the same, sent by 100 as the dispatcher does",
    parameters={"count": 60_000, "batch": 100},
)


def _peer(label: str, peer: str, note: str, **parameters: Any) -> Side:
    return Side(
        label=label,
        measure=f"benchmarks.peers.{peer}:untracked",
        peer=peer,
        parameters=parameters,
        note=note,
    )


def _tuned(workers: int) -> list[Side]:
    return [
        _peer("saq, tuned", "saq", NOTHING, concurrency=100, ttl=-1),
        _peer("arq, tuned", "arq", NOTHING, tuned=True),
        _peer("celery, solo" if workers == 1 else "celery, prefork", "celery", NOTHING,
              flags=_celery(workers), count=3_000, producers=2),
        _peer("dramatiq, 8 threads", "dramatiq", NOTHING, threads=8, count=4_000, producers=2),
        _peer("taskiq, a list", "taskiq", NOTHING + "; loses what a killed worker had",
              kind="tuned"),
        _peer("streaq, tuned", "streaq", NOTHING,
              options={"concurrency": 100, "prefetch": 200, "uvloop": True, "ttl": 0}),
    ]  # fmt: skip


def _celery(workers: int) -> list[str]:
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    pool = ["--pool", "solo"] if workers == 1 else ["--concurrency", str(workers), "-O", "fair"]
    return [*pool, *quiet]


DOCUMENTED = [
    _peer("saq, as documented", "saq", LESS, concurrency=10, ttl=600),
    _peer("arq, as documented", "arq", LESS, tuned=False, count=500),
    _peer("taskiq, streams and results", "taskiq", LESS, kind="documented", count=3_000),
    _peer("streaq, as documented", "streaq", LESS, options={}, count=4_000),
]


def _case(workers: int, *more: Side, quick: bool = False) -> Comparison:
    return Comparison(
        label=f"{workers} worker" + "s" * (workers > 1),
        sides=(OURS, *_tuned(workers), *more),
        parameters={"count": 6_000, "producers": 100, "workers": workers},
        quick={"count": 50, "producers": 10} if quick else None,
        database="postgres-flushed",
        redis=True,
        targets={side.label: 2.5 for side in _tuned(workers)} if workers == 1 else {},
    )


QUESTION = Question(
    name="peers_workers",
    short="Workers through Redis",
    title="No-ops by worker processes through Redis, each enqueued by itself, until all have run",
    beside="others that work through Redis; ours alone also commits two states of each task",
    cases=[
        _case(1, *DOCUMENTED, quick=True),
        _case(2),
        Comparison(
            label="1 worker, the queue alone",
            sides=(QUEUE, BATCHES, *(side for side in _tuned(1) if side.peer in FASTEST)),
            parameters={"count": 6_000, "producers": 100, "workers": 1},
            redis=True,
            database="postgres",
        ),
    ],
    repeats=3,
)
