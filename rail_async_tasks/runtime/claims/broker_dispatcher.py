"""The broker dispatcher: sends due executions to workers, where a broker carries them.

It stands in the local dispatcher's place. Every process of a project sends, web and worker alike:
rows are sent also when the process that stored them is gone. A row has the time when it was sent.
It is sent again only when it has been under way for so long that it must have been lost, or when a
broker that can answer that (see `broker.Inventory`) does not have it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import msgspec

from rail_async_tasks.backoff import Backoff
from rail_async_tasks.hooks import awaited
from rail_async_tasks.ledger.dispatch_records import Dispatch, RatedSend
from rail_async_tasks.ledger.errors import is_of_row
from rail_async_tasks.ledger.port import Claims, Surveys
from rail_async_tasks.ledger.upkeep import Dispatches
from rail_async_tasks.runtime.claims.broker import Broker, Inventory
from rail_async_tasks.runtime.claims.inventory import InventoryTimings, LostDispatches
from rail_async_tasks.runtime.claims.no_claim import NoClaim
from rail_async_tasks.runtime.claims.overdue import OverdueWarnings
from rail_async_tasks.runtime.claims.pauses import Pauses
from rail_async_tasks.runtime.claims.rates import Rates
from rail_async_tasks.runtime.claims.sends_due import SendsDue
from rail_async_tasks.runtime.claims.slots import Slots
from rail_async_tasks.runtime.claims.surveys import Surveyor
from rail_async_tasks.runtime.state import RuntimeState
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.text import describe

logger = get_logger("rail_async_tasks.runtime")

# Dispatches of one push. More than a usual window: one look is enough to fill that.
PAGE = 250
# Under way in a queue at least. What is more waits in the ledger, which knows priorities.
LEAST_WINDOW = 100
# Between two looks at a queue with a rate, in seconds: workers have some in store. Each look that
# finds nothing to send, as other processes have sent it, doubles the rest, so many times at most.
SHORTEST_REST = 0.05
MOST_DOUBLINGS = 3


class BrokerTimings(msgspec.Struct, frozen=True, kw_only=True):
    """How long the broker dispatcher waits, in seconds."""

    # A broker that has not taken a push by then is taken for dead.
    push_timeout: float = 5.0
    # Between two tries while it is: the first pause and the longest, each twice the one before.
    shortest_pause: float = 0.5
    longest_pause: float = 3.0


class SenderLedger(Claims, Surveys, Protocol):
    """The ports of the ledger that the broker dispatcher uses, besides its dispatches."""


class _NotTaken(Exception):
    """The broker did not take a push, for the reason that is its cause."""


class BrokerDispatcher:
    """Sends due executions to the broker.

    Args:
        max_concurrency: a queue's window, the most rows under way, is twice as large.
        page: dispatches of one push.
    """

    def __init__(  # noqa: PLR0913 (collaborators)
        self,
        *,
        ledger: SenderLedger,
        dispatches: Dispatches,
        broker: Broker,
        slots: Slots,
        state: RuntimeState,
        due: SendsDue,
        pauses: Pauses,
        max_concurrency: int,
        page: int = PAGE,
        timings: BrokerTimings = BrokerTimings(),  # noqa: B008 (frozen)
        inventory_timings: InventoryTimings = InventoryTimings(),  # noqa: B008
    ) -> None:
        self._ledger = ledger
        self._dispatches = dispatches
        self._broker = broker
        self._slots = slots
        self._state = state
        self._due = due
        self._pauses = pauses
        self._window = max(LEAST_WINDOW, 2 * max_concurrency)
        self._page = page
        self._timings = timings
        clock = asyncio.get_running_loop().time
        self._overdue = OverdueWarnings(broker.name, clock=clock)
        self._rates = Rates(slots=slots, refilled=due.refilled)
        self._survey = Surveyor(ledger=ledger, due=due, pauses=pauses, queues=slots.queues).survey
        # By queue with a rate: the last looks that have found nothing to send.
        self._misses: dict[str, int] = {}
        self._lost: LostDispatches | None = None
        if isinstance(broker, Inventory):
            self._lost = LostDispatches(
                inventory=broker,
                name=broker.name,
                dispatches=dispatches,
                clock=clock,
                timings=inventory_timings,
            )
        # Marked as sent, and not sent: another transaction had their rows locked.
        self._unsent: list[Dispatch] = []
        bounds = {"shortest": timings.shortest_pause, "longest": timings.longest_pause}
        options: dict[str, Any] = {"log": logger, "clock": clock, **bounds}
        self._push_backoff = Backoff(
            f"The broker {broker.name} does not take tasks",
            "They wait in the database, and are sent when it does",
            recovery=f"The broker {broker.name} takes tasks again",
            **options,
        )
        self._backoff = Backoff("Due tasks could not be sent to workers", **options)

    async def send_all(self, queues: Iterable[str]) -> bool:
        """Sends all that may be sent of these queues; False where the broker is away."""
        for queue in queues:
            self._due.expect("", queue)
        await self._due.caught_up()
        return not self._due.stalled

    async def run(self) -> None:
        """Sends whenever rows may be due, until the runtime drains."""
        while not self._state.draining:
            try:
                await awaited(self._send_due, f"The backend {self._broker.name}")
            except _NotTaken as failure:
                await self._stall(self._not_taken(failure))
            except Exception as error:
                await self._stall(
                    self._backoff.failed(describe(error), error, expected=not is_of_row(error))
                )
            else:
                self._due.stalled = False
                self._push_backoff.recovered()
                self._backoff.recovered()
            await self._due.until_needed()
        self._due.end()

    def _not_taken(self, failure: _NotTaken) -> float:
        """Logs that the broker did not take a push; returns the pause in seconds."""
        error = failure.__cause__ or failure
        timed_out = isinstance(error, TimeoutError)
        reason = "it does not answer" if timed_out else describe(error)
        return self._push_backoff.failed(reason, error)

    async def _stall(self, seconds: float) -> None:
        self._due.stall()
        await self._due.sleep(seconds)

    async def _send_due(self) -> None:
        if self._due.needs_survey:
            await self._survey()
            if not self._due.any_due:
                return
        if self._unsent:
            await self._unsend([])
        await self._pauses.up_to_date()
        self._due.acted()
        self._due.queues -= self._slots.stopped
        if self._due.stages:
            await self._stage()
        if self._lost is not None:
            await self._send_again(await self._lost.find())
        for queue in self._slots.by_priority(self._due.queues):
            self._due.queues.discard(queue)
            try:
                await self._send_queue(queue)
            except Exception:
                self._due.queues.add(queue)
                raise

    async def _stage(self) -> None:
        """Clears `run_after` of rows that have come due, by a claim of nothing."""
        self._due.stages = False
        try:
            result = await self._ledger.claim(NoClaim(self._state.id))
        except Exception:
            self._due.stages = True
            raise
        if result.next_due is not None:
            self._due.due_in(max(result.next_due, 0.0))

    async def _send_again(self, lost: Sequence[Dispatch]) -> None:
        if lost:
            await self._unsend(lost)
            for dispatch in lost:
                self._due.expect(dispatch.name, dispatch.queue)

    async def _send_queue(self, queue: str) -> None:
        rate = self._slots.rates.get(queue)
        while not self._state.draining and queue not in self._slots.stopped:
            if rate is None:
                sent = await self._dispatches.send(
                    queue, self._broker.name, self._window, self._page
                )
            else:
                found = await self._dispatches.send_rated(
                    queue, self._broker.name, rate, self._page
                )
                sent = found.sent
                if found.wait is not None:
                    self._rest(queue, found)
            if sent:
                self._overdue.report(queue, sum(dispatch.overdue for dispatch in sent))
                await self._push(sent)
            if len(sent) < self._page:
                return

    def _rest(self, queue: str, found: RatedSend) -> None:
        """Lets the queue rest until more of it may be sent."""
        misses = 0 if found.sent else self._misses.get(queue, 0) + 1
        self._misses[queue] = misses
        shortest = SHORTEST_REST * 2.0 ** min(misses, MOST_DOUBLINGS)
        self._rates.rest(queue, max(found.wait or 0.0, shortest))

    async def _push(self, sent: Sequence[Dispatch]) -> None:
        try:
            async with asyncio.timeout(self._timings.push_timeout):
                await awaited(lambda: self._broker.push(sent), f"{self._broker.name}.push()")
        except Exception as error:
            await self._unsend(sent)
            raise _NotTaken from error

    async def _unsend(self, dispatches: Sequence[Dispatch]) -> None:
        """Takes their marks away; those of locked rows with the next look, a second later."""
        self._unsent = await self._dispatches.unsend([*self._unsent, *dispatches])
