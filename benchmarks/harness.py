"""Runs a question's cases and sums them up: warm-up, repeats, median and spread, ratios.

Every sample is taken in a process of its own, on a database of its own, after a warm-up in that
process. A case's two sides, what is measured and what stands beside it, take turns, so that a noisy
minute meets both; their ratio is taken pair by pair.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from benchmarks.databases import Databases
from benchmarks.environment import ROOT, child_environment

# Seconds that one sample may take; past them it hangs, and the run ends with an error.
TOO_LONG = 900

Metrics = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One line of a question.

    Args:
        measure, beside: `module:function`, a `def` or an `async def` that takes the parameters by
            name and returns its metrics. Both must return the same ones.
        parameters: `count` among them, which the warm-up divides by ten.
        quick: what `--quick` has in place of some parameters; None leaves the case out there.
        database: one of `Databases.fresh`, or none.
        redis: whether there is a Redis too, at `BENCHMARK_REDIS` and in the task settings.
        settings: the package's task settings.
        targets: the least ratio, or the least value, of a metric; see `Target`.
    """

    label: str
    measure: str
    beside: str
    parameters: Mapping[str, Any]
    quick: Mapping[str, Any] | None = None
    loop: str = "uvloop"
    database: str | None = None
    redis: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    targets: Mapping[str, Target] = field(default_factory=dict)


@dataclass(frozen=True)
class Target:
    """The target of a metric: a value of its own, or a ratio to its neighbour's."""

    least: float
    of_ratio: bool = False


@dataclass(frozen=True)
class Question:
    """A file of this folder: what is asked, what stands beside the answer, and the cases."""

    name: str
    title: str
    beside: str
    cases: Sequence[Case]
    repeats: int = 5


def run(
    question: Question,
    databases: Databases,
    *,
    quick: bool = False,
    repeats: int | None = None,
    only: str = "",
    log: Callable[[str], None] = lambda line: None,
) -> list[dict[str, Any]]:
    """Measures the cases (those whose label contains `only`). Returns a row of results for each."""
    rows = []
    for case in question.cases:
        if only not in case.label or (quick and case.quick is None):
            continue
        log(f"{question.name}: {case.label}")
        parameters = {**case.parameters, **((case.quick or {}) if quick else {})}
        sample = partial(_sample, case, parameters, databases)
        pairs = [
            _pair(sample, case, turn, at_once=quick)
            for turn in range(1 if quick else repeats or question.repeats)
        ]
        rows.append(_row(case, parameters, pairs))
        for name, metric in rows[-1]["metrics"].items():
            log(f"  {name}: {metric['here']['median']:.0f}, {metric['beside']['median']:.0f}")
    return rows


def _pair(
    sample: Callable[[str], Metrics], case: Case, turn: int, *, at_once: bool
) -> tuple[Metrics, Metrics]:
    """Both sides once, each in its turn first; at once where the figures count for nothing."""
    if at_once:
        with ThreadPoolExecutor() as threads:
            here, beside = threads.map(sample, (case.measure, case.beside))
    elif turn % 2 == 0:
        here, beside = sample(case.measure), sample(case.beside)
    else:
        beside, here = sample(case.beside), sample(case.measure)
    return here, beside


def _sample(
    case: Case,
    parameters: Mapping[str, Any],
    databases: Databases,
    function: str,
) -> Metrics:
    """One side of a case, once, in a fresh process."""
    spec = {"function": function, "parameters": parameters, "loop": case.loop}
    with databases.fresh(case.database) as environment, databases.redis(case.redis) as more:
        child = subprocess.run(
            [sys.executable, "-m", "benchmarks.child"],
            input=json.dumps(spec),
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=child_environment(
                environment, more, {"BENCHMARK_TASK_SETTINGS": json.dumps(dict(case.settings))}
            ),
            timeout=TOO_LONG,
            check=True,
        )
    metrics: Metrics = json.loads(child.stdout.splitlines()[-1])
    return metrics


def _row(
    case: Case, parameters: Mapping[str, Any], pairs: Sequence[tuple[Metrics, Metrics]]
) -> dict[str, Any]:
    metrics = {}
    for name in pairs[0][0]:
        mine = [here[name] for here, _ in pairs]
        theirs = [beside[name] for _, beside in pairs]
        metrics[name] = {
            "here": summary(mine),
            "beside": summary(theirs),
            "ratio": summary([a / b for a, b in zip(mine, theirs, strict=True)]),
        }
        if target := case.targets.get(name):
            metrics[name]["target"] = {"least": target.least, "of_ratio": target.of_ratio}
    return {
        "label": case.label,
        "parameters": dict(parameters),
        "loop": case.loop,
        "database": case.database,
        "settings": dict(case.settings),
        "metrics": metrics,
    }


def summary(samples: Sequence[float]) -> dict[str, Any]:
    """The median and the quartiles around it; the samples too, to look at."""
    if len(samples) == 1:
        low = high = samples[0]
    else:
        low, _, high = statistics.quantiles(samples, n=4, method="inclusive")
    return {
        "median": statistics.median(samples),
        "low": low,
        "high": high,
        "samples": [round(sample, 4) for sample in samples],
    }


def percentiles(seconds: Sequence[float]) -> Metrics:
    """p50 and p99 of what was timed, in microseconds."""
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {"p50 µs": cuts[49] * 1e6, "p99 µs": cuts[98] * 1e6}
