"""Histograms: values land in their bucket, and percentiles are off by no more than one."""

from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from rail_async_tasks.rollups.histogram import BOUNDS, BUCKETS, bucket_of, percentile, total_of

durations = st.floats(min_value=0.0, max_value=90_000.0, allow_nan=False)


def counted(values: list[float]) -> list[int]:
    """The histogram of these durations."""
    counts = [0] * BUCKETS
    for value in values:
        counts[bucket_of(value)] += 1
    return counts


def test_bounds_grow_by_a_factor_of_at_most_1_6() -> None:
    """From a millisecond to over a day; the first of each five is a power of ten."""
    ratios = [b / a for a, b in pairwise(BOUNDS)]
    assert (BOUNDS[0], BOUNDS[-1]) == (0.001, 100_000.0)
    assert max(ratios) <= 1.61
    assert min(ratios) > 1.5


@given(st.lists(durations, min_size=1), st.floats(min_value=0.01, max_value=1.0))
def test_a_percentile_is_in_the_bucket_of_the_exact_one(values: list[float], share: float) -> None:
    """So it is off by a factor of 1.6 at most."""
    exact = sorted(values)[max(math.ceil(share * len(values)) - 1, 0)]
    found = percentile(counted(values), share)
    assert found is not None
    low = 0.0 if bucket_of(exact) == 0 else BOUNDS[bucket_of(exact) - 1]
    assert low <= found <= BOUNDS[bucket_of(exact)]


@given(st.lists(durations), st.lists(durations))
def test_histograms_add_up(one: list[float], other: list[float]) -> None:
    """The sum of two is the histogram of all their values."""
    assert total_of([counted(one), counted(other)]) == counted(one + other)


def test_nothing_and_endless() -> None:
    """Without values there is no percentile; past the last bound its own value is given."""
    assert percentile([0] * BUCKETS, 0.5) is None
    assert percentile(counted([10.0**9]), 0.5) == BOUNDS[-1]
    assert bucket_of(-1.0) == 0
    assert total_of([]) == [0] * BUCKETS
