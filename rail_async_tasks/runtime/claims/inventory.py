"""The question to a broker: which of the dispatches that are under way has it lost?"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from uuid import UUID

import msgspec

from rail_async_tasks.backoff import Backoff
from rail_async_tasks.hooks import awaited
from rail_async_tasks.ledger.dispatch_records import Dispatch
from rail_async_tasks.ledger.upkeep import Dispatches
from rail_async_tasks.runtime.claims.broker import Inventory
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.text import counted, describe

logger = get_logger("rail_async_tasks.runtime")


class InventoryTimings(msgspec.Struct, frozen=True, kw_only=True):
    """When a broker is asked what it has, in seconds."""

    ask_every: float = 3.0
    # Only about what has been under way for so long.
    ask_after: float = 5.0
    # A broker that has not answered by then is asked again later.
    timeout: float = 5.0


class LostDispatches:
    """Finds dispatches that the broker has lost, for example by a restart without its data.

    Args:
        name: that of the backend, as rows have it.
        page: asks about so many dispatches at a time.
        clock: returns seconds that never go back.
    """

    def __init__(
        self,
        *,
        inventory: Inventory,
        name: str,
        dispatches: Dispatches,
        clock: Callable[[], float],
        page: int = 1000,
        timings: InventoryTimings = InventoryTimings(),  # noqa: B008 (frozen)
    ) -> None:
        self._inventory = inventory
        self._name = name
        self._dispatches = dispatches
        self._clock = clock
        self._page = page
        self._timings = timings
        self._ask_at = clock() + timings.ask_every
        self._asked_to: UUID | None = None  # where the next page begins
        self._backoff = Backoff(
            f"The broker {name} does not say what it has",
            "It is asked again, and sent to all the same",
            log=logger,
            recovery=f"The broker {name} says what it has again",
            clock=clock,
        )

    async def find(self) -> Sequence[Dispatch]:
        """Returns the lost ones of the next page; () while it is not time to ask.

        Raises:
            DatabaseError: the dispatches can't be read.
        """
        if self._clock() < self._ask_at:
            return ()
        self._ask_at = self._clock() + self._timings.ask_every
        asked = await self._dispatches.under_way(
            self._name, self._timings.ask_after, self._asked_to, self._page
        )
        self._asked_to = asked[-1].id if len(asked) == self._page else None
        if not asked:
            return ()
        lost = await self._ask(asked)
        if lost:
            # Now and then it is a worker that has dropped one, for it could not be claimed.
            first = any(dispatch.number == 1 for dispatch in lost)
            logger.log(
                logging.WARNING if first else logging.INFO,
                "The broker %s has lost %s, sent again now",
                self._name, counted(len(lost), "task"),
            )  # fmt: skip
        return lost

    async def _ask(self, asked: Sequence[Dispatch]) -> Sequence[Dispatch]:
        try:
            async with asyncio.timeout(self._timings.timeout):
                lost = await awaited(
                    lambda: self._inventory.missing(asked), f"{self._name}.missing()"
                )
        except Exception as error:  # sending goes on
            timed_out = isinstance(error, TimeoutError)
            self._backoff.failed("it does not answer" if timed_out else describe(error), error)
            return ()
        self._backoff.recovered()
        return lost
