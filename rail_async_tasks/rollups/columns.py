"""The counts of a roll-up, in the order in which a process keeps them. Each is a column."""

from __future__ import annotations

from typing import Final

from rail_async_tasks.rollups.histogram import BUCKETS

# How attempts and executions end.
OUTCOMES: Final = ("completed", "failed", "cancelled", "retried")
# The buckets of `histogram`: from creation to the first attempt, and how long bodies took.
WAITS: Final = tuple(f"wait_{bucket}" for bucket in range(BUCKETS))
RUNS: Final = tuple(f"run_{bucket}" for bucket in range(BUCKETS))
COUNTS: Final = (*OUTCOMES, *WAITS, *RUNS)
