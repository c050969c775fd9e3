"""A case with several sides: what is measured beside other task systems, in turns.

Every side is a whole system with the same load (`benchmarks.load`). Where one does less or more
than ours, its `note` says so.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import sampling
from benchmarks.databases import Databases
from benchmarks.figures import Metrics, ratio, summary
from benchmarks.peers import environments

# Seconds for a sample of a peer: a system that is set up as documented may be slow, not endless.
TOO_LONG = 120
SAME_WORK = "the same"


@dataclass(frozen=True, kw_only=True)
class Side:
    """One system in a comparison.

    Args:
        label: its name, and how it is set up.
        measure: `module:function`; see `benchmarks.load`.
        peer: the environment that it runs in, one of `peers/requirements`; None: the project's.
        parameters: beyond those of the comparison, or in place of them.
        settings: the package's task settings, for our own sides.
        note: what it does less or more than the first side, and whose favour that is in.
    """

    label: str
    measure: str
    peer: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    note: str = SAME_WORK


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One group of a question's table. The first side is ours, and what the others relate to.

    Args:
        targets: the least ratio of the first side's `metric` to that of others, by how their labels
            begin.
        quick: what `--quick` has in place of some parameters, for our own sides alone.
    """

    label: str
    sides: Sequence[Side]
    parameters: Mapping[str, Any]
    metric: str = "tasks/s"
    quick: Mapping[str, Any] | None = None
    database: str | None = None
    redis: bool = False
    targets: Mapping[str, float] = field(default_factory=dict)


def measured(
    case: Comparison,
    databases: Databases,
    *,
    repeats: int,
    quick: bool,
    sides: str = "",
    log: Callable[[str], None],
) -> dict[str, Any]:
    """The case's row of results. The sides take turns, each round in the opposite order.

    A peer that can't be set up or fails has its reason in place of figures.
    """
    chosen = [side for side in case.sides if _is_asked_for(side, sides, quick=quick)]
    pythons = environments.ready({side.peer for side in chosen if side.peer}, log)
    samples: dict[str, list[Metrics]] = {side.label: [] for side in chosen}
    failures: dict[str, str] = {}
    for turn in range(repeats):
        for side in chosen if turn % 2 == 0 else reversed(chosen):
            if side.label in failures:
                continue
            try:
                metrics = sampling.take(_sample(case, side, pythons, quick=quick), databases)
            except (KeyError, subprocess.SubprocessError) as error:
                if side.peer is None:
                    raise
                failures[side.label] = _reason(error)
                log(f"  {side.label}: {failures[side.label]}")
            else:
                samples[side.label].append(metrics)
                log(f"  {side.label}: {metrics[case.metric]:.0f} {case.metric}")
    return summed(case, chosen, samples, failures)


def _is_asked_for(side: Side, texts: str, *, quick: bool) -> bool:
    """Ours always: the ratios are to it."""
    return side.peer is None or (not quick and any(it in side.label for it in texts.split(",")))


def _sample(
    case: Comparison, side: Side, pythons: Mapping[str, Path], *, quick: bool
) -> sampling.Sample:
    parameters = {**case.parameters, **side.parameters, **((case.quick or {}) if quick else {})}
    return sampling.Sample(
        function=side.measure,
        parameters=parameters,
        database=case.database,
        redis=case.redis,
        settings=side.settings,
        own_warm_up=True,
        python=pythons[side.peer] if side.peer else None,
        too_long=TOO_LONG if side.peer else sampling.TOO_LONG,
    )


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return "its environment could not be made"
    if isinstance(error, subprocess.TimeoutExpired):
        return f"not finished within {TOO_LONG} s"
    return "failed"


def summed(
    case: Comparison,
    chosen: Sequence[Side],
    samples: Mapping[str, Sequence[Metrics]],
    failures: Mapping[str, str],
) -> dict[str, Any]:
    """The row of results: each side's samples, or why it has none."""
    mine = samples[chosen[0].label]
    rows = [_side(side, samples[side.label], mine, failures.get(side.label)) for side in chosen]
    row = {
        "label": case.label,
        "parameters": dict(case.parameters),
        "database": case.database,
        "redis": case.redis,
        "metric": case.metric,
        "sides": rows,
    }
    if case.targets:
        row["targets"] = [{"of": of, "least": least} for of, least in case.targets.items()]
    return row


def _side(
    side: Side, theirs: Sequence[Metrics], mine: Sequence[Metrics], failure: str | None
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "label": side.label,
        "peer": side.peer,
        "versions": environments.versions(side.peer) if side.peer else {},
        "parameters": dict(side.parameters),
        "settings": dict(side.settings),
        "note": side.note,
    }
    if failure is not None:
        return {**found, "failure": failure}
    found["metrics"] = {name: summary([metrics[name] for metrics in theirs]) for name in theirs[0]}
    found["ratios"] = {
        name: ratio([one[name] for one in mine], [other[name] for other in theirs])
        for name in theirs[0]
        if name in mine[0]
    }
    return found
