"""Runtimes in this process; see `tests.support.runtimes`."""

from __future__ import annotations

from tests.support.runtimes import (
    configure,
    declarations_are_the_tests_own,
    ends_cleanly,
    runtimes,
    store,
)

__all__ = ["configure", "declarations_are_the_tests_own", "ends_cleanly", "runtimes", "store"]
