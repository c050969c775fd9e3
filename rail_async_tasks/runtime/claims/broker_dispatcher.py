"""The sender: gets due executions to workers, where a broker carries them. See `brokers.Broker`.

It stands in the dispatcher's place. Every process of a project sends, web and worker alike, so that
what waits is sent also when the process that stored it is gone. A row says when it was sent: it is
sent again only when it has been under way for so long that it must have been lost, or when a broker
that can tell says that it does not have it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from rail_async_tasks.hooks import awaited
from rail_async_tasks.ledger.records import Dispatch, Lane
from rail_async_tasks.ledger.upkeep import Dispatches
from rail_async_tasks.runtime.claims.broker import Broker, Inventory
from rail_async_tasks.runtime.claims.slots import Slots
from rail_async_tasks.runtime.due import POLL_SECONDS, Due
from rail_async_tasks.runtime.state import RuntimeState
from rail_async_tasks.safe_logging import get_logger

if TYPE_CHECKING:
    from rail_async_tasks.runtime.runtime import Runtime

logger = get_logger("rail_async_tasks.runtime")

# Sent by one call of the broker. More than a usual window: one look is enough to fill that.
PAGE = 250
# Under way in a queue at least; what is more waits in the ledger, which knows priorities.
LEAST_WINDOW = 100
# Once so many attempts have ended here, the windows of queues are filled up of which some was sent
# in so many seconds.
REFILL = 25
LATELY = 2.0
# A broker that can tell is asked every so often whether it has what has been under way for so long,
# so many at a time. Seconds.
ASK_EVERY = 3.0
ASK_AFTER = 5.0
ASK_PAGE = 1000
# A broker that has not answered by then (seconds) is taken for dead.
PATIENCE = 5.0
# How often it is said that nobody takes what was sent to a queue, in seconds.
TELL_EVERY = 60.0
# Between two tries while it is, in seconds; it doubles from the first to the last.
FIRST_PAUSE, LAST_PAUSE = 0.5, 3.0


class SendsDue(Due):
    """Queues in which rows may be due that are to be sent to workers."""

    def __init__(
        self, *, slots: Slots, state: RuntimeState, poll_seconds: float = POLL_SECONDS
    ) -> None:
        super().__init__(state=state, poll_seconds=poll_seconds)
        self._slots = slots
        self.queues: set[str] = set()  # where something may be to send
        self._sent_at: dict[str, float] = {}  # by queue: when some were last sent
        self._ended = 0  # attempts, since the windows were filled up

    def expect(self, name: str, queue: str) -> None:
        self._slots.know(queue)
        self.queues.add(queue)
        self._wake.set()

    def slot_freed(self) -> None:
        """Where the window was full, there is room in it."""
        self._ended += 1
        if self._ended >= REFILL:
            self._ended = 0
            since = self._loop.time() - LATELY
            self.queues.update(queue for queue, at in self._sent_at.items() if at >= since)
            self._wake.set()

    def sent(self, queue: str) -> None:
        """Some rows of the queue were sent now."""
        self._sent_at[queue] = self._loop.time()

    def expect_all(self) -> None:
        self.queues.update(self._slots.queues())

    @property
    def any_due(self) -> bool:
        return bool(self.queues)


class Sender:
    """Sends due executions. Everything that is "later" is a row that comes due."""

    def __init__(
        self, runtime: Runtime, due: SendsDue, broker: Broker, dispatches: Dispatches
    ) -> None:
        self._runtime = runtime
        self._broker = broker
        self._dispatches = dispatches
        self._due = due
        self._pause = FIRST_PAUSE
        self._inventory = broker if isinstance(broker, Inventory) else None
        self._ask_at = runtime.loop.time() + ASK_EVERY
        self._asked_to: UUID | None = None
        self._tell_at: dict[str, float] = {}  # by queue: when to speak of it again
        # Marked as sent, and not sent: another transaction had their rows locked.
        self._unsent: list[Dispatch] = []
        self._asking_failed = False

    async def send_all(self, queues: Iterable[str]) -> bool:
        """Looks into the queues and sends what may be sent. False: the broker is away."""
        for queue in queues:
            self._due.expect("", queue)
        await self._due.caught_up()
        return not self._due.stalled

    async def run(self) -> None:
        while not self._runtime.draining:
            try:
                await awaited(self._send_due, f"The backend {self._broker.name}")
            except Exception as error:
                await self._fail(error)
            else:
                self._succeed()
            await self._due.until_needed()
        self._due.end()

    async def _send_due(self) -> None:
        if self._unsent:
            await self._unsend([])
        # A claim of nothing: it tells which rows have come due.
        due = await self._runtime.ledger.claim(_Nothing(self._runtime.id))
        if due.next_due is not None:
            self._due.due_in(max(due.next_due, 0.0))
        if self._inventory is not None and self._runtime.loop.time() >= self._ask_at:
            await self._ask(self._inventory)
        for queue in self._runtime.slots.by_priority(self._due.queues):
            self._due.queues.discard(queue)
            try:
                await self._send_queue(queue)
            except Exception:
                self._due.queues.add(queue)
                raise

    async def _send_queue(self, queue: str) -> None:
        window = max(LEAST_WINDOW, 2 * self._runtime.settings.max_concurrency)
        while not self._runtime.draining:
            sent = await self._dispatches.send(queue, self._broker.name, window, PAGE)
            if sent:
                self._tell_overdue(queue, sum(dispatch.overdue for dispatch in sent))
                await self._push(sent)
                self._due.sent(queue)
            if len(sent) < PAGE:
                return

    def _tell_overdue(self, queue: str, count: int) -> None:
        now = self._runtime.loop.time()
        if count and now >= self._tell_at.get(queue, now):
            self._tell_at[queue] = now + TELL_EVERY
            logger.warning(
                "%d tasks of the queue %r were sent to %s a minute ago or more, and no worker has"
                " taken them; they are sent again. Does a worker serve this queue?",
                count, queue, self._broker.name,
            )  # fmt: skip

    async def _ask(self, inventory: Inventory) -> None:
        """Has what the broker has lost sent again: after a restart without its data, say."""
        self._ask_at = self._runtime.loop.time() + ASK_EVERY
        asked = await self._dispatches.under_way(
            self._broker.name, ASK_AFTER, self._asked_to, ASK_PAGE
        )
        self._asked_to = asked[-1].id if len(asked) == ASK_PAGE else None
        if not asked:
            return
        try:
            async with asyncio.timeout(PATIENCE):
                missing = await awaited(
                    lambda: inventory.missing(asked), f"{self._broker.name}.missing()"
                )
        except Exception as error:  # what it can't say now it is asked again; sending goes on
            self._complain_of_asking(error)
            return
        self._asking_failed = False
        if missing:
            # Now and then it is a worker that has dropped one, for it could not be claimed.
            first = any(dispatch.number == 1 for dispatch in missing)
            logger.log(
                logging.WARNING if first else logging.INFO,
                "The broker %s does not have %d tasks any more; they are sent again",
                self._broker.name, len(missing),
            )  # fmt: skip
            await self._unsend(missing)
            for dispatch in missing:
                self._due.expect(dispatch.name, dispatch.queue)

    def _complain_of_asking(self, error: Exception) -> None:
        if not self._asking_failed:
            what = "it does not answer" if isinstance(error, TimeoutError) else error
            logger.warning("The broker %s does not say what it has: %s", self._broker.name, what)
            logger.debug("The question that failed", exc_info=error)
        self._asking_failed = True

    async def _push(self, sent: Sequence[Dispatch]) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await awaited(lambda: self._broker.push(sent), f"{self._broker.name}.push()")
        except Exception:
            await self._unsend(sent)
            raise

    async def _unsend(self, dispatches: Sequence[Dispatch]) -> None:
        """Takes their marks away; those of locked rows with the next look, a second later."""
        self._unsent = await self._dispatches.unsend([*self._unsent, *dispatches])

    async def _fail(self, error: Exception) -> None:
        if not self._due.stalled:
            what = "it does not answer" if isinstance(error, TimeoutError) else error
            logger.warning("The broker %s does not take tasks: %s", self._broker.name, what)
            logger.debug("The push that failed", exc_info=error)
        self._due.stall()
        await self._due.sleep(self._pause)
        self._pause = min(self._pause * 2, LAST_PAUSE)

    def _succeed(self) -> None:
        if self._due.stalled:
            logger.warning("The broker %s takes tasks again", self._broker.name)
        self._due.stalled = False
        self._pause = FIRST_PAUSE


class _Nothing:
    """A claim that takes no row. See `ledger.port.ClaimPlan`."""

    def __init__(self, runtime_id: UUID) -> None:
        self.runtime_id = runtime_id

    def lanes(self) -> Iterator[Lane]:
        return iter(())

    def took(self, lane: Lane, count: int) -> None:
        """There is none."""
