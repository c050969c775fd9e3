"""The rate of a queue as a token bucket: how many of its tasks may start now, and when the next.

Pure. A start takes a token; tokens come at the rate. A full bucket has one token, and what comes in
a twentieth of a second: a queue that was idle starts no crowd. While tasks wait for tokens it has
what comes in half a second: a start that is late is made up for.

The state is the time up to which all tokens are spent. It says the same to processes whose settings
have different rates, as during a deploy.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec

from rail_async_tasks.conf.model import RateLimit

MICROSECOND = 1_000_000
# Tokens that came in so many seconds are kept, beside one: of an idle queue, and while tasks wait.
IDLE_SECONDS = 0.05
LATE_SECONDS = 0.5
# Spent so many seconds ahead of the clock: it was set back since then. Less is two processes.
LEAP_SECONDS = 1.0
# Ids are sent to workers so many seconds before there is a token: they need some time to arrive.
AHEAD_SECONDS = 0.1


class TokenBucket(msgspec.Struct, frozen=True):
    """A queue's bucket at one moment. `spent_until` and `now` are microseconds since 1970.

    `spent_until` is None before the first start. `waited`: tasks have waited since a claim that
    left no token.
    """

    rate: RateLimit
    spent_until: int | None
    now: int
    waited: bool = False

    @property
    def interval(self) -> float:
        """Returns the microseconds between two tokens."""
        return self.rate.period / self.rate.count * MICROSECOND

    @property
    def leaps(self) -> bool:
        """Returns whether the clock was set back since the last start: the state must be stored."""
        ahead = LEAP_SECONDS * MICROSECOND
        return self.spent_until is not None and self.spent_until > self.now + ahead

    def tokens(self, ahead: float = 0.0) -> int:
        """Returns how many may start now; with `ahead`, so many seconds later."""
        level = (self.now + ahead * MICROSECOND - self._start) / self.interval
        return max(math.floor(level + 1e-6), 0)

    def wait(self, tokens: int = 1) -> float:
        """Returns the seconds until there are so many tokens; 0 if there are."""
        return max(self._start + tokens * self.interval - self.now, 0.0) / MICROSECOND

    def wait_to_send(self, under_way: int) -> float:
        """Returns the seconds until one more may be sent to a worker, with so many under way.

        Where a full bucket has no token for one more, a worker must claim some first: it is looked
        at again after the time of a token, a tenth of a second to one.
        """
        interval = self.interval / MICROSECOND
        if under_way + 1 > self.capacity + AHEAD_SECONDS / interval:
            return min(max(interval, 0.1), 1.0)
        return max(self.wait(under_way + 1) - AHEAD_SECONDS, 0.0)

    @property
    def capacity(self) -> float:
        """Returns the tokens of a full bucket."""
        kept = LATE_SECONDS if self.waited else IDLE_SECONDS
        return 1 + kept * MICROSECOND / self.interval

    def spend(self, tokens: int) -> TokenBucket:
        """Returns the bucket without so many tokens."""
        spent_until = round(self._start + tokens * self.interval)
        return TokenBucket(self.rate, spent_until, self.now, self.waited)

    def left(self, tokens: int, any_wait: Callable[[], bool]) -> TokenBucket:
        """Returns the bucket after a claim of so many; `any_wait` returns whether tasks are due.

        It is asked only where that can matter.
        """
        left = self.spend(tokens)
        waited = (self.waited or not left.tokens()) and any_wait()
        return TokenBucket(self.rate, left.spent_until, self.now, waited)

    @property
    def _start(self) -> float:
        full = self.now - self.capacity * self.interval
        if self.spent_until is None:
            return full
        return float(self.now) if self.leaps else max(float(self.spent_until), full)
