"""Acts on notices of other processes, and sends those of this one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from uuid import UUID

from rail_async_tasks.ledger.notices import Notice, Notices
from rail_async_tasks.ledger.optional import OptionalPorts
from rail_async_tasks.safe_logging import get_logger

logger = get_logger("rail_async_tasks.runtime")

# All in seconds. Between two notices of one kind that this process sends, and between two surveys
# that notices of others ask for.
SEND_EVERY = 0.1
HEED_EVERY = 0.05
# For the last notice: the end of the process waits for no database that is away.
CLOSE_TIMEOUT = 1.0
# The longest time between two surveys that find nothing: where notices arrive, where they do not,
# and where no other process has the rows.
HEARD_POLL = 5.0
DEAF_POLL = 2.0
ALONE_POLL = 60.0


def longest_poll_of(ledger: OptionalPorts) -> float:
    """Returns the longest time between two surveys where the ledger carries no notices."""
    return ALONE_POLL if ledger.leases() is None else DEAF_POLL


class NoticeExchange:
    """Heeds the notices of other processes, and sends them its own. On the runtime's loop.

    Args:
        notices: None where the ledger carries none.
        on_due: is called when another process may have left rows that are due.
        alone: returns whether no other process is alive, which could take what is left here.
        room: returns whether another execution could start here now.
        on_queues: is called after another process has paused or resumed a queue.
        on_cancel: is called with an execution for which another process has asked for a cancel.
        poll: the longest time between two surveys where the ledger carries no notices, in seconds.
    """

    def __init__(
        self,
        *,
        notices: Notices | None,
        on_due: Callable[[], None],
        alone: Callable[[], bool],
        room: Callable[[], bool],
        on_queues: Callable[[], None],
        on_cancel: Callable[[UUID], None],
        poll: float = DEAF_POLL,
    ) -> None:
        self._notices = notices
        self._on_due = on_due
        self._alone = alone
        self._room = room
        self._on_queues = on_queues
        self._on_cancel = on_cancel
        self._poll = poll
        self._loop = asyncio.get_running_loop()
        self._send_at = self._heed_at = self._loop.time()
        self._stop = asyncio.Event()
        self._sending: asyncio.Task[None] | None = None
        self._heeding: asyncio.TimerHandle | None = None

    def longest_poll(self) -> float:
        """Returns the longest time between two surveys that find nothing, in seconds."""
        if self._notices is None:
            return self._poll
        return HEARD_POLL if self._notices.heard else DEAF_POLL

    async def run(self) -> None:
        """Listens until `stop`."""
        if self._notices is None:
            return
        listening = asyncio.ensure_future(self._notices.run(self._heed))
        stopped = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({listening, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if listening.done():
                listening.result()
        finally:
            listening.cancel()
            stopped.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    def stop(self) -> None:
        self._stop.set()

    # --- from other processes --------------------------------------------------------------------

    def _heed(self, notice: Notice, execution_id: UUID | None) -> None:
        if notice is Notice.CANCELS:
            if execution_id is not None:
                self._on_cancel(execution_id)
            return
        if notice is Notice.QUEUES:
            self._on_queues()
        elif not self._room():
            return  # the surveys of a busy process find the rows, when it has room
        if self._heeding is None:
            when = max(self._heed_at, self._loop.time())
            self._heeding = self._loop.call_at(when, self._survey)

    def _survey(self) -> None:
        self._heeding = None
        self._heed_at = self._loop.time() + HEED_EVERY
        self._on_due()

    # --- to other processes ----------------------------------------------------------------------

    def rows_left(self) -> None:
        """Rows are due that can't start here now. Called for each: costs next to nothing."""
        if self._sending is None and self._notices is not None and not self._alone():
            self._sending = self._loop.create_task(self._send_in_time(self._notices))

    async def _send_in_time(self, notices: Notices) -> None:
        """Sends one notice, some time after the last one."""
        try:
            await asyncio.sleep(self._send_at - self._loop.time())
            self._send_at = self._loop.time() + SEND_EVERY
            self._sending = None  # what is left from now on takes another
            await notices.send(Notice.DUE)
        except Exception as error:
            logger.debug("A notice could not be sent: %s", error)

    async def close(self) -> None:
        """Has other processes look at what this one, which ends, has handed back."""
        if self._sending is not None:
            self._sending.cancel()
        if self._heeding is not None:
            self._heeding.cancel()
        if self._notices is None or self._alone():
            return
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._notices.send(Notice.DUE)
        except Exception as error:
            logger.debug("A notice could not be sent: %s", error)
