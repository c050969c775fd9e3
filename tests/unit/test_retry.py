"""When the next attempt is due."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rail_async_tasks.retry import RetryPolicy


def policy(**fields: Any) -> RetryPolicy:
    defaults: dict[str, Any] = {
        "max_retries": 3, "delay": 1.0, "backoff": True, "max_delay": 3600.0, "jitter": 0.0,
    }  # fmt: skip
    return RetryPolicy(**(defaults | fields))


@pytest.mark.parametrize(
    ("fields", "waits"),
    [
        ({}, [1, 2, 4, 8, 16]),
        ({"delay": 0.5}, [0.5, 1, 2, 4, 8]),
        ({"backoff": False, "delay": 3}, [3, 3, 3, 3, 3]),
        ({"max_delay": 5}, [1, 2, 4, 5, 5]),
        ({"backoff": False, "delay": 9, "max_delay": 5}, [5] * 5),
        ({"delay": 0}, [0] * 5),
    ],
)
def test_waits(fields: dict[str, Any], waits: list[float]) -> None:
    """delay * 2**(retry - 1), capped; the delay alone without backoff."""
    assert [policy(**fields).wait(retry) for retry in range(1, 6)] == waits


def test_a_thousandth_retry_does_not_overflow() -> None:
    """It waits for the cap."""
    assert policy().wait(100_000) == 3600


@pytest.mark.parametrize(("drawn", "wait"), [(-0.1, 3.6), (0.0, 4.0), (0.1, 4.4)])
def test_jitter_spreads_both_ways(drawn: float, wait: float) -> None:
    """By its share of the wait; it asks for a number between minus and plus that share."""
    asked = []

    def uniform(low: float, high: float) -> float:
        asked.append((low, high))
        return drawn

    assert policy(jitter=0.1).wait(3, uniform) == pytest.approx(wait)
    assert asked == [(-0.1, 0.1)]


@given(
    retry=st.integers(1, 10_000),
    delay=st.floats(0, 1e6),
    max_delay=st.floats(0, 1e6),
    jitter=st.floats(0, 1),
    backoff=st.booleans(),
)
def test_no_wait_exceeds_the_cap_or_is_negative(
    retry: int, delay: float, max_delay: float, jitter: float, backoff: bool
) -> None:
    """Whatever the settings, jitter included."""
    it = policy(delay=delay, max_delay=max_delay, jitter=jitter, backoff=backoff)
    assert 0 <= it.wait(retry) <= max_delay


@pytest.mark.parametrize(
    ("error", "retry_count", "max_retries", "allowed"),
    [
        (ValueError(), 0, 3, True),
        (ValueError(), 2, 3, True),
        (ValueError(), 3, 3, False),
        (ValueError(), 0, 0, False),
        (UnicodeError(), 0, 1, True),
        (KeyError(), 0, 3, False),
    ],
)
def test_allows(error: BaseException, retry_count: int, max_retries: int, allowed: bool) -> None:
    """While retries are left, for the declared kinds of errors and what derives from them.

    What counts is the row's own `max_retries`, as it was when the execution was created.
    """
    it = policy(retry_on=(ValueError,), max_retries=99)
    assert it.allows(error, retry_count, max_retries) is allowed
