"""Runs a question's cases and sums them up: warm-up, repeats, median and spread, ratios.

Every sample is taken in a process of its own, on a database of its own, after a warm-up in that
process. The sides of a case, what is measured and what stands beside it, take turns, so that a
noisy minute meets all of them; their ratio is taken pair by pair.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from benchmarks import comparison
from benchmarks.comparison import Comparison
from benchmarks.databases import Databases
from benchmarks.figures import Metrics, percentiles, ratio, summary
from benchmarks.sampling import Sample, take

__all__ = ["Case", "Metrics", "Question", "Target", "percentiles", "run", "summary"]


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
    """A file of this folder: what is asked, what stands beside the answer, and the cases.

    Args:
        short: what the page's overview calls it; "" leaves it out there.
    """

    name: str
    title: str
    beside: str
    cases: Sequence[Case | Comparison]
    repeats: int = 5
    short: str = ""


def run(
    question: Question,
    databases: Databases,
    *,
    quick: bool = False,
    repeats: int | None = None,
    only: str = "",
    sides: str = "",
    log: Callable[[str], None] = lambda line: None,
) -> list[dict[str, Any]]:
    """Measures the cases whose label contains `only`. Returns a row of results for each.

    Of the peers in a comparison those whose label contains one of `sides`, separated by commas;
    our own sides always.
    """
    turns = 1 if quick else repeats or question.repeats
    rows = []
    for case in question.cases:
        if only not in case.label or (quick and case.quick is None):
            continue
        log(f"{question.name}: {case.label}")
        if isinstance(case, Comparison):
            rows.append(
                comparison.measured(
                    case, databases, repeats=turns, quick=quick, sides=sides, log=log
                )
            )
            continue
        parameters = {**case.parameters, **((case.quick or {}) if quick else {})}
        pairs = [_pair(case, parameters, databases, turn, at_once=quick) for turn in range(turns)]
        rows.append(_row(case, parameters, pairs))
        for name, metric in rows[-1]["metrics"].items():
            log(f"  {name}: {metric['here']['median']:.0f}, {metric['beside']['median']:.0f}")
    return rows


def _pair(
    case: Case, parameters: Mapping[str, Any], databases: Databases, turn: int, *, at_once: bool
) -> tuple[Metrics, Metrics]:
    """Both sides once, each in its turn first; at once where the figures count for nothing."""

    def sample(function: str) -> Metrics:
        return take(
            Sample(
                function=function,
                parameters=parameters,
                loop=case.loop,
                database=case.database,
                redis=case.redis,
                settings=case.settings,
            ),
            databases,
        )

    if at_once:
        with ThreadPoolExecutor() as threads:
            here, beside = threads.map(sample, (case.measure, case.beside))
    elif turn % 2 == 0:
        here, beside = sample(case.measure), sample(case.beside)
    else:
        beside, here = sample(case.beside), sample(case.measure)
    return here, beside


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
            "ratio": ratio(mine, theirs),
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
