"""A queue's rate as a token bucket."""

from __future__ import annotations

import pytest

from rail_async_tasks.conf import RateLimit
from rail_async_tasks.token_bucket import TokenBucket

SECOND = 1_000_000
NOW = 1_800_000_000 * SECOND
TEN = RateLimit(10, 1.0)


def bucket(
    rate: RateLimit = TEN, spent: int | None = None, now: int = NOW, *, waited: bool = False
) -> TokenBucket:
    return TokenBucket(rate, spent, now, waited)


@pytest.mark.parametrize(
    ("rate", "tokens"),
    [(RateLimit(1, 60.0), 1), (TEN, 1), (RateLimit(100, 1.0), 6), (RateLimit(1, 86400.0), 1)],
)
def test_a_full_bucket_has_a_token_and_what_comes_in_a_twentieth_of_a_second(
    rate: RateLimit, tokens: int
) -> None:
    """Also after a long idle time: nothing piles up."""
    assert bucket(rate).tokens() == tokens
    assert bucket(rate, NOW - 10**15).tokens() == tokens


@pytest.mark.parametrize(("rate", "tokens"), [(RateLimit(1, 60.0), 1), (TEN, 6)])
def test_late_starts_are_made_up_for(rate: RateLimit, tokens: int) -> None:
    """Where tasks have waited: what comes in half a second, and no more."""
    assert bucket(rate, NOW - 10**15, waited=True).tokens() == tokens


def test_tokens_come_at_the_rate() -> None:
    """One by one after the burst, at times that `wait` foretells."""
    it = bucket().spend(1)
    assert (it.tokens(), it.wait()) == (0, pytest.approx(0.05))
    assert it.wait(3) == pytest.approx(0.25)
    later = bucket(spent=it.spent_until, now=NOW + SECOND // 10)
    assert (later.tokens(), later.wait()) == (1, 0.0)


@pytest.mark.parametrize("every", [0.001, 0.03, 0.1, 0.45])
@pytest.mark.parametrize("count", [3, 10, 1000])
def test_a_rate_is_kept_however_often_tokens_are_taken(count: int, every: float) -> None:
    """Over a minute, where tasks wait and each start is late by less than half a second."""
    rate = RateLimit(count, 1.0)
    spent, now, taken = None, NOW, 0
    while now < NOW + 60 * SECOND:
        it = bucket(rate, spent, now, waited=True)
        if it.tokens():
            taken += it.tokens()
            spent = it.spend(it.tokens()).spent_until
        now += round(every * SECOND)
    assert taken == pytest.approx(60.5 * count, abs=0.5 * count + 2)


def test_tokens_of_a_moment_to_come() -> None:
    """What a broker has time to carry."""
    it = bucket().spend(1)
    assert (it.tokens(), it.tokens(0.1), it.tokens(0.25)) == (0, 1, 3)


def test_a_clock_that_was_set_back_stops_no_queue() -> None:
    """A spent time far ahead says so: the next token comes after one interval."""
    it = bucket(spent=NOW + 3600 * SECOND)
    assert it.leaps
    assert it.wait() == pytest.approx(0.1)
    assert bucket(spent=it.spend(0).spent_until, now=NOW + SECOND // 10).tokens() == 1
    # Two processes differ by a little.
    near = bucket(spent=NOW + SECOND // 2)
    assert not near.leaps
    assert near.wait() == pytest.approx(0.6)


def test_settings_with_different_rates_share_a_state() -> None:
    """As during a deploy: what is spent is a time, and no count."""
    spent = bucket(RateLimit(10, 1.0)).spend(1).spent_until
    slow = bucket(RateLimit(1, 1.0), spent, NOW)
    assert slow.wait() == pytest.approx(0.95)
