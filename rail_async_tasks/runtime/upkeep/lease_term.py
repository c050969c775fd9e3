"""The term of a lease, by the clock of its holder. Pure."""

from __future__ import annotations

# The share of the lease that is left when its holder gives it up: before others may take it.
MARGIN = 0.2


class LeaseTerm:
    """Knows how long one lease still lasts, and whether its holder may judge others.

    All times are seconds by one clock, which counts the time that the machine sleeps.

    Args:
        seconds: the lease. Others take this process for dead after so long without a renewal.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._good_since: float | None = None  # renewed without a gap from then on
        self._last_good: float | None = None  # when the last good renewal was sent

    def renewed(self, sent_at: float) -> None:
        """A renewal that was sent at `sent_at` has succeeded."""
        if self._last_good is None or sent_at - self._last_good > self.seconds:
            self._good_since = sent_at
        self._last_good = sent_at

    def left(self, now: float) -> float:
        """Returns the seconds until others may take this process for dead, as far as it knows."""
        return 0.0 if self._last_good is None else self._last_good + self.seconds - now

    def age(self, now: float) -> float | None:
        """Returns the seconds since the last good renewal was sent; None without a lease."""
        return None if self._last_good is None else now - self._last_good

    def clock_was_set(self, now: float) -> None:
        """By the ledger's clock every lease has lapsed, through no fault of its holder."""
        self._good_since = now

    def lost(self) -> None:
        """The lease is over. The next one begins with `renewed`."""
        self._good_since = self._last_good = None

    def is_over(self, now: float) -> bool:
        """Returns whether others may soon take this process for dead."""
        return self._last_good is not None and (now - self._last_good > self.seconds * (1 - MARGIN))

    def may_judge(self, now: float) -> bool:
        """Returns whether it may take others for dead.

        It must have seen one whole lease without a gap itself: after an outage of the database no
        process was able to renew, and none of them is to blame.
        """
        return (
            self._good_since is not None
            and not self.is_over(now)
            and now - self._good_since > self.seconds
        )
