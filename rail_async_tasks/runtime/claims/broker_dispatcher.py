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

from rail_async_tasks.backoff import Backoff
from rail_async_tasks.hooks import awaited
from rail_async_tasks.ledger.records import Dispatch, Lane
from rail_async_tasks.ledger.upkeep import Dispatches
from rail_async_tasks.runtime.claims.broker import Broker, Inventory
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.text import describe

if TYPE_CHECKING:
    from rail_async_tasks.runtime.runtime import Runtime

logger = get_logger("rail_async_tasks.runtime")

# What another process has left is found within this time, in seconds.
POLL_INTERVAL = 1.0
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


class Sender:
    """Sends due executions. Everything that is "later" is a row that comes due."""

    def __init__(self, runtime: Runtime, broker: Broker, dispatches: Dispatches) -> None:
        self._runtime = runtime
        self._broker = broker
        self._dispatches = dispatches
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._queues: set[str] = set()  # where something may be to send
        self._next_due: float | None = None  # by the loop's clock
        self._sent_at: dict[str, float] = {}  # by queue: when some were last sent
        self._ended = 0  # attempts, since the windows were filled up
        self._inventory = broker if isinstance(broker, Inventory) else None
        self._ask_at = runtime.loop.time() + ASK_EVERY
        self._asked_to: UUID | None = None
        self._tell_at: dict[str, float] = {}  # by queue: when to speak of it again
        # Marked as sent, and not sent: another transaction had their rows locked.
        self._unsent: list[Dispatch] = []
        self._pushing = Backoff(
            f"The broker {broker.name} does not take tasks", "They wait in the ledger",
            log=logger, recovery=f"The broker {broker.name} takes tasks again",
            shortest=FIRST_PAUSE, longest=LAST_PAUSE,
        )  # fmt: skip
        self._asking = Backoff(
            f"The broker {broker.name} does not say what it has", "It is asked again", log=logger
        )

    @property
    def failing(self) -> bool:
        """Whether the latest push failed."""
        return self._pushing.failing

    def wake(self) -> None:
        self._wake.set()

    def expect(self, name: str, queue: str) -> None:
        """A due row is in the ledger."""
        self._runtime.slots.know(queue)
        self._queues.add(queue)
        self._wake.set()

    def due_in(self, seconds: float) -> None:
        """A row comes due in so many seconds."""
        at = self._runtime.loop.time() + seconds
        if self._next_due is None or at < self._next_due:
            self._next_due = at
            self._wake.set()

    def slot_freed(self) -> None:
        """An attempt has ended here: where the window was full, there is room in it."""
        self._ended += 1
        if self._ended >= REFILL:
            self._ended = 0
            since = self._runtime.loop.time() - LATELY
            self._queues.update(queue for queue, at in self._sent_at.items() if at >= since)
            self._wake.set()

    async def send_all(self, queues: Iterable[str]) -> bool:
        """Looks into the queues and sends what may be sent. False: the broker is away."""
        for queue in queues:
            self.expect("", queue)
        await self.caught_up()
        return not self.failing

    async def caught_up(self) -> None:
        """Returns when all is sent that may be; at once in a drain, or while the broker is away."""
        while (self._queues or not self._idle.is_set()) and not (
            self.failing or self._runtime.draining
        ):
            self._idle.clear()
            await self._idle.wait()

    async def run(self) -> None:
        while not self._runtime.draining:
            try:
                await awaited(self._send_due, f"The backend {self._broker.name}")
            except Exception as error:
                pause = self._pushing.failed(_describe(error), error)
                self._idle.set()
                await self._sleep(pause)
            else:
                self._pushing.recovered()
            await self._until_needed()
        self._idle.set()

    async def _send_due(self) -> None:
        if self._unsent:
            await self._unsend([])
        # A claim of nothing: it tells which rows have come due.
        due = await self._runtime.ledger.claim(_Nothing(self._runtime.id))
        if due.next_due is not None:
            self.due_in(max(due.next_due, 0.0))
        if self._inventory is not None and self._runtime.loop.time() >= self._ask_at:
            await self._ask(self._inventory)
        for queue in self._runtime.slots.by_priority(self._queues):
            self._queues.discard(queue)
            try:
                await self._send_queue(queue)
            except Exception:
                self._queues.add(queue)
                raise

    async def _send_queue(self, queue: str) -> None:
        window = max(LEAST_WINDOW, 2 * self._runtime.settings.max_concurrency)
        while not self._runtime.draining:
            sent = await self._dispatches.send(queue, self._broker.name, window, PAGE)
            if sent:
                self._tell_overdue(queue, sum(dispatch.overdue for dispatch in sent))
                await self._push(sent)
                self._sent_at[queue] = self._runtime.loop.time()
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
            self._asking.failed(_describe(error), error)
            return
        self._asking.recovered()
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
                self.expect(dispatch.name, dispatch.queue)

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

    async def _sleep(self, seconds: float) -> None:
        deadline = self._runtime.loop.time() + seconds
        while not self._runtime.draining and (left := deadline - self._runtime.loop.time()) > 0:
            self._wake.clear()
            await self._until(left)

    async def _until(self, seconds: float) -> None:
        timer = self._runtime.loop.call_later(seconds, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()

    async def _until_needed(self) -> None:
        """Returns when there may be something to send: woken, a row due, the interval over."""
        loop = self._runtime.loop
        poll_at = loop.time() + POLL_INTERVAL
        while not self._runtime.draining:
            now = loop.time()
            if (self._next_due is not None and now >= self._next_due) or now >= poll_at:
                self._next_due = None
                self._queues.update(self._runtime.slots.queues())
            if self._queues:
                return
            wake_at = poll_at if self._next_due is None else min(poll_at, self._next_due)
            self._wake.clear()
            self._idle.set()
            try:
                await self._until(wake_at - now)
            finally:
                self._idle.clear()


def _describe(error: Exception) -> str:
    return "it does not answer" if isinstance(error, TimeoutError) else describe(error)


class _Nothing:
    """A claim that takes no row. See `ledger.port.ClaimPlan`."""

    def __init__(self, runtime_id: UUID) -> None:
        self.runtime_id = runtime_id

    def lanes(self) -> Iterator[Lane]:
        return iter(())

    def took(self, lane: Lane, count: int) -> None:
        """There is none."""
