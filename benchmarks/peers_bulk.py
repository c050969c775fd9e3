"""Rows a second of one bulk call after another, into PostgreSQL."""

from __future__ import annotations

from benchmarks.comparison import Comparison, Side
from benchmarks.harness import Question


def _case(batch: int, count: int, *, quick: bool = False) -> Comparison:
    return Comparison(
        label=f"{batch:,} tasks a call",
        sides=(
            Side(
                label="rail_async_tasks, aenqueue_many",
                measure="benchmarks.ours:bulk",
                settings={"max_pending": None},
            ),
            Side(
                label="Oban, enqueue_many", measure="benchmarks.peers.oban:bulk", peer="oban",
                note="the same, due at once, with no queue that runs it",
            ),
            Side(
                label="pgqueuer, enqueue of lists", measure="benchmarks.peers.pgqueuer:bulk",
                peer="pgqueuer",
                note="the same, due at once, without a consumer; returns ids, no handles",
            ),
        ),
        parameters={"count": count, "batch": batch},
        metric="rows/s",
        quick={"count": 200, "batch": 100} if quick else None,
        database="postgres-flushed",
        targets={"Oban": 3.0, "pgqueuer": 3.0},
    )  # fmt: skip


QUESTION = Question(
    name="peers_bulk",
    short="Bulk, PostgreSQL",
    title="Tasks enqueued by lists, rows in PostgreSQL",
    beside="the bulk call of other task systems that keep rows there; no body runs",
    cases=[_case(100, 10_000), _case(1_000, 40_000, quick=True), _case(10_000, 60_000)],
    repeats=3,
)
