"""The clock of leases and schedules."""

from __future__ import annotations

import time


def boottime() -> float:
    """Returns seconds that pass also while the machine sleeps, where the system counts them."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)
