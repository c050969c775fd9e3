"""Repeated failures of one operation: pauses that grow, one log line, and one for the recovery."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import Final

from rail_async_tasks.safe_logging import SafeLogger
from rail_async_tasks.text import sentence

# The pause after the first failure and the longest one, in seconds; each is twice the one before.
SHORTEST: Final = 0.1
LONGEST: Final = 3.0
# A failure that lasts, or that comes and goes, is logged once in this time (seconds).
LOG_EVERY: Final = 30.0
# An operation has this many doublings at most: the pause is at its longest long before.
_MOST_DOUBLINGS: Final = 10


class Backoff:
    """Counts the failures in a row of one operation, logs them, and returns the pauses between.

    Not thread-safe: one thread or event loop reports; the attributes may be read in any thread.

    Args:
        problem: names the operation and its failure, as a sentence without its full stop.
        consequence: says what goes on meanwhile, or what follows; it ends the log line.
        log: gets the lines.
        recovery: replaces "<problem>: over" in the line that ends the failures, a WARNING.
        level: of the line for a failure.
        shortest: the pause after the first failure, in seconds.
        longest: the longest pause, in seconds.
        clock: returns seconds that never go back.
        uniform: returns a random number between its two arguments.
    """

    def __init__(
        self,
        problem: str,
        consequence: str = "It is tried again",
        *,
        log: SafeLogger,
        recovery: str | None = None,
        level: int = logging.WARNING,
        shortest: float = SHORTEST,
        longest: float = LONGEST,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._problem = problem
        self._consequence = consequence
        self._recovery = recovery or f"{problem}: over"
        self._log = log
        self._level = level
        self._shortest = shortest
        self._longest = longest
        self._clock = clock
        self._uniform = uniform
        self._in_a_row = 0
        self._logged_at: float | None = None
        self._is_logged = False  # of the failures in a row, at least one
        self.pause = shortest  # after the latest failure, in seconds
        self.failing_since: float | None = None  # by the clock
        self.failures = 0  # in all

    @property
    def failing(self) -> bool:
        """True from a failure to the next recovery."""
        return self.failing_since is not None

    def failed(
        self, error: str, cause: BaseException | None = None, *, expected: bool = True
    ) -> float:
        """Count a failure, log it unless one was logged lately, and return the pause in seconds.

        The pause is spread, so that the processes of a fleet do not come back all at once. The
        traceback of an expected `cause` is logged as DEBUG; an unexpected one makes the line an
        ERROR with its traceback.
        """
        now = self._clock()
        most = min(self._longest, self._shortest * 2.0 ** min(self._in_a_row, _MOST_DOUBLINGS))
        self.pause = most * self._uniform(0.5, 1.0)
        self._in_a_row += 1
        self.failures += 1
        if self.failing_since is None:
            self.failing_since = now
        if self._logged_at is None or now - self._logged_at >= LOG_EVERY:
            self._logged_at = now
            self._is_logged = True
            self._log_failure(error, cause, expected=expected)
        return self.pause

    def begin(self) -> None:
        """Begin with the shortest pause again: the next failure is another operation's."""
        self._in_a_row = 0

    def recovered(self) -> None:
        """End the failures in a row, if there are any. Logs it where a failure was logged."""
        if self.failing_since is None:
            return
        if self._is_logged:
            seconds = self._clock() - self.failing_since
            self._log.warning("%s after %.1f s", self._recovery, seconds)
        # `_logged_at` stays: a failure that comes and goes is logged now and then, too.
        self._is_logged = False
        self._in_a_row = 0
        self.failing_since = None
        self.pause = self._shortest

    def _log_failure(self, error: str, cause: BaseException | None, *, expected: bool) -> None:
        self._log.log(
            self._level if expected else logging.ERROR,
            "%s: %s %s",
            self._problem,
            sentence(error),
            self._consequence,
            exc_info=None if expected else cause,
        )
        if expected and cause is not None:
            self._log.debug("%s: the traceback", self._problem, exc_info=cause)
