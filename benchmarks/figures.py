"""Sums samples up: median and quartiles, ratios pair by pair, percentiles."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

Metrics = dict[str, float]


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


def ratio(above: Sequence[float], below: Sequence[float]) -> dict[str, Any]:
    """The summary of the ratios of samples that were taken next to each other."""
    return summary([a / b for a, b in zip(above, below, strict=True)])


def percentiles(seconds: Sequence[float]) -> Metrics:
    """p50 and p99 of what was timed, in microseconds."""
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {"p50 µs": cuts[49] * 1e6, "p99 µs": cuts[98] * 1e6}
