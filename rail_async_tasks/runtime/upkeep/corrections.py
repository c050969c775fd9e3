"""Steps that follow the ledger's rows: queues that are new here, and times from the future."""

from __future__ import annotations

from collections.abc import Callable

from rail_async_tasks.ledger.port import LoopReads
from rail_async_tasks.ledger.upkeep import Clock
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.text import counted

logger = get_logger("rail_async_tasks.runtime")


class QueueReader:
    """Finds queues that no setting or declaration names.

    Args:
        know: makes a queue known here, so that it is served.
    """

    def __init__(self, *, reads: LoopReads, know: Callable[[str], None]) -> None:
        self._reads = reads
        self._know = know

    async def read(self) -> None:
        for queue in await self._reads.queues():
            self._know(queue)


class TimeCorrector:
    """Corrects times that were stored while the ledger's clock was ahead.

    Args:
        ttl: for so long (seconds) finished executions are kept; None: for good.
        hold: the longest reservation of a failure callback, in seconds.
    """

    def __init__(self, *, ledger_clock: Clock, ttl: float | None, hold: float) -> None:
        self._ledger_clock = ledger_clock
        self._ttl = ttl
        self._hold = hold

    async def correct(self) -> None:
        count = await self._ledger_clock.correct_times(self._ttl, self._hold)
        if count:
            logger.warning(
                "%s had times from the future, corrected now: the clock of the database (on"
                " SQLite, of this machine) was ahead. See that it is kept by NTP.",
                counted(count, "row"),
            )  # fmt: skip
