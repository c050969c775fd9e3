"""Histograms of durations: fixed buckets that add up across processes and minutes. Pure.

Five buckets a decade, from a millisecond to 28 hours: a percentile is off by at most the width of
its bucket, a factor of 1.6, and by much less where many values share the bucket.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

# The upper bounds of the buckets in seconds, each included: 1, 1.6, 2.5, 4 and 6.3 of each decade.
BOUNDS: Final[tuple[float, ...]] = (
    *(round(step * 10.0**exp, 6) for exp in range(-3, 5) for step in (1, 1.6, 2.5, 4, 6.3)),
    100_000.0,
)
# The last bucket has no upper bound.
BUCKETS: Final = len(BOUNDS) + 1


def bucket_of(seconds: float) -> int:
    """Returns the number of the bucket of a duration in seconds; a negative one counts as 0."""
    return bisect_left(BOUNDS, seconds)


def percentile(counts: Sequence[int], share: float) -> float | None:
    """Returns the duration in seconds that the share (0 to 1) of the values do not exceed.

    Interpolates within the bucket. In the last bucket it is the lower bound, which the values
    exceed. None where nothing was counted.
    """
    total = sum(counts)
    if not total:
        return None
    rank = share * total
    below = 0
    for bucket, count in enumerate(counts):
        if count and below + count >= rank:
            low = BOUNDS[bucket - 1] if bucket else 0.0
            if bucket >= len(BOUNDS):
                return low
            return low + (BOUNDS[bucket] - low) * max(rank - below, 0.0) / count
        below += count
    return BOUNDS[-1]


def total_of(histograms: Sequence[Sequence[int]]) -> list[int]:
    """Returns the sum of histograms, bucket by bucket."""
    return [sum(column) for column in zip(*histograms, strict=True)] or [0] * BUCKETS
