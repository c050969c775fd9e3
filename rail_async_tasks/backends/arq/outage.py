"""Redis is away: when to try again, and when to say so."""

from __future__ import annotations

import random
from typing import Final

from rail_async_tasks.safe_logging import get_logger

logger = get_logger("rail_async_tasks.backends")

# Between two tries, in seconds: from the first to the longest, each twice the one before.
FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 3.0


# What redis-py puts between a command of a pipeline, here a whole script, and the answer to it.
_ANSWER: Final = " caused error: "


def is_refusal(error: Exception) -> bool:
    """Whether the server has answered, and not done what it was asked."""
    return _ANSWER in str(error)


def brief(error: Exception) -> str:
    """What went wrong, in one line."""
    words = " ".join(str(error).rpartition(_ANSWER)[2].split())
    return words[:200] or type(error).__name__


class Outage:
    """The failures in a row. Tells once that there are any, and once that they are over."""

    def __init__(self) -> None:
        self.pause = FIRST_PAUSE  # seconds
        self._lasts = False

    def failed(self, error: Exception) -> float:
        """The seconds to wait; spread, so that workers do not come back all at once."""
        if self._lasts:
            self.pause = min(self.pause * 2, LONGEST_PAUSE)
        else:
            logger.warning(
                "Redis %s: %s. What runs goes on; the worker tries again",
                "refuses a command" if is_refusal(error) else "does not answer",
                brief(error),
            )
            self.pause = FIRST_PAUSE
        self._lasts = True
        return self.pause * random.uniform(0.5, 1.0)  # noqa: S311 (no secret)

    def over(self) -> None:
        if self._lasts:
            logger.warning("Redis answers again")
        self._lasts = False
