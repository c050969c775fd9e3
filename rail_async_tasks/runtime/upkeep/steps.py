"""A step that a service repeats: its failure is logged once, and concerns that step alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from rail_async_tasks.backoff import Backoff
from rail_async_tasks.ledger.errors import is_of_row
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.text import describe

logger = get_logger("rail_async_tasks.runtime")


class Step:
    """Reads or corrects one thing in the ledger.

    Args:
        name: of what is read, in the plural, for the log.
        action: takes the step.
        every: the step is taken in every so many rounds.
        quiet_every: the same while the process has had no work lately; None: as `every`.
        wanted: returns whether there is anything that the step could find.
    """

    def __init__(
        self,
        name: str,
        action: Callable[[], Awaitable[None]],
        *,
        every: int = 1,
        quiet_every: int | None = None,
        wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        self._every = every
        self._quiet_every = quiet_every or every
        self._wanted = wanted
        self._action = action
        self._backoff = Backoff(
            f"Reading {name} from the database failed", "It is read again", log=logger
        )

    def is_due(self, rounds: range, *, quiet: bool) -> bool:
        """Returns whether the step is to be taken in one of these rounds."""
        every = self._quiet_every if quiet else self._every
        return any(number % every == 0 for number in rounds) and self._wanted()

    async def take(self) -> None:
        """Takes the step. Raises nothing: after a failure it is taken again in its next round."""
        try:
            await self._action()
        except Exception as error:
            self._backoff.failed(describe(error), error, expected=not is_of_row(error))
        else:
            self._backoff.recovered()
