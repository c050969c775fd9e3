"""What do the limits of requests cost, and what do roll-ups and metrics?"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from benchmarks.comparison import Comparison, Side
from benchmarks.harness import Question
from rail_async_tasks.conf import LimitSettings

LEAST = 0.97
WITHOUT_LIMITS = {"limits": dict.fromkeys(it.name for it in fields(LimitSettings))}


def _limits(label: str, measure: str, *, quick: bool = False) -> Comparison:
    def side(name: str, settings: dict[str, Any]) -> Side:
        return Side(label=name, measure=f"benchmarks.endpoint:{measure}", settings=settings)

    return Comparison(
        label=label,
        sides=[side("the limits of the defaults", {}), side("no limit", WITHOUT_LIMITS)],
        parameters={"count": 2000, "middleware": "none"},
        metric="requests/s" if measure == "listed" else "mutations/s",
        quick={"count": 40} if quick else None,
        database="sqlite",
        targets={"no limit": LEAST},
    )


def _observers(producers: int) -> Comparison:
    def side(name: str, *, on: bool) -> Side:
        settings = {"max_pending": None, "statistics_enabled": on, "metrics_enabled": on}
        return Side(label=name, measure="benchmarks.ours:in_process", settings=settings)

    return Comparison(
        label=f"tracked tasks, {producers} producers",
        sides=[side("roll-ups and metrics", on=True), side("neither", on=False)],
        parameters={"count": 10_000, "producers": producers},
        database="postgres-flushed",
        targets={"neither": LEAST},
    )


QUESTION = Question(
    name="costs",
    short="What is on, beside what is off",
    title="Limits, roll-ups and metrics",
    beside="the same work with them off",
    cases=[
        _limits("a constant mutation", "constant", quick=True),
        _limits("a mutation that starts a task", "tracked"),
        _limits("a query", "listed"),
        _observers(10),
        _observers(100),
    ],
    repeats=7,
)
