"""The backoff of the bus's parts: a bus that fails delays what watchers see, and nothing else."""

from __future__ import annotations

from rail_async_tasks.backoff import Backoff
from rail_async_tasks.safe_logging import get_logger

logger = get_logger("rail_async_tasks.bus")


def bus_backoff(problem: str) -> Backoff:
    """Return a backoff that logs what the failure of a part of the bus means for users."""
    consequence = "Tasks go on; watchers see changes later, by reads of the ledger"
    return Backoff(problem, consequence, log=logger)
