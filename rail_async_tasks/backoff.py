"""A connection that fails: how long to wait before the next try, and when to say so."""

from __future__ import annotations

import logging
import random
import time

from rail_async_tasks.safe_logging import SafeLogger, get_logger

logger = get_logger("rail_async_tasks.bus")

# Between two tries, in seconds: from the first to the longest, each twice the one before.
SHORTEST = 0.1
LONGEST = 3.0
# A trouble that goes on is told once in this time (seconds).
TOLD_EVERY = 30.0


class Trouble:
    """The failures in a row of one connection, or of whatever is tried again and again.

    Args:
        what: fails, for the log: a sentence without its full stop.
        meanwhile: what goes on all the same, or what comes next.
        log: who says so.
    """

    def __init__(
        self,
        what: str,
        meanwhile: str = "Tasks go on; watchers learn of them by reading again",
        log: SafeLogger = logger,
    ) -> None:
        self._what = what
        self._meanwhile = meanwhile
        self._log = log
        self._tries = 0
        self._told_at: float | None = None
        self.count = 0  # of all failures that there were

    @property
    def lasts(self) -> bool:
        """Whether the last try has failed."""
        return self._tries > 0

    def failed(self, error: str, exc_info: BaseException | None = None) -> float:
        """Counts a failure, logs it unless that was done lately; returns the seconds to wait.

        The wait is spread, so that the processes of a fleet do not come back all at once. With
        `exc_info` the line is an ERROR with the traceback: the failure is unexpected.
        """
        delay = min(LONGEST, SHORTEST * 2.0 ** min(self._tries, 10))
        self._tries += 1
        self.count += 1
        now = time.monotonic()
        if self._told_at is None or now - self._told_at >= TOLD_EVERY:
            self._told_at = now
            self._log.log(
                logging.WARNING if exc_info is None else logging.ERROR,
                "%s: %s. %s",
                self._what,
                error.rstrip("."),
                self._meanwhile,
                exc_info=exc_info,
            )
        return delay * random.uniform(0.5, 1.0)  # noqa: S311 (no secret)

    def over(self) -> None:
        """The connection is there."""
        if self._tries and self._told_at is not None:
            self._log.info("%s: over after %d tries", self._what, self._tries)
            # Not forgotten: what fails and recovers all the time is told every so often too.
        self._tries = 0
