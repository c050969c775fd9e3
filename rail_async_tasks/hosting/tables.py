"""Waits for tables that a database lacks: `manage.py migrate` has not run yet."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from rail_async_tasks.backoff import Backoff
from rail_async_tasks.errors import TablesMissing
from rail_async_tasks.ledger.port import Ledger
from rail_async_tasks.runtime.attempts.threads import DaemonThreads
from rail_async_tasks.safe_logging import get_logger

# A database that does not answer in so many seconds is waited for by the runtime itself.
CHECK_TIMEOUT: Final = 5.0

_backoff = Backoff(
    "No task runs in this process",
    "It looks again every two seconds, and at each use",
    log=get_logger("rail_async_tasks.runtime"),
    recovery="Tasks run in this process: the tables are there",
    level=logging.ERROR,
)


async def acheck_tables(ledger: Ledger) -> None:
    """`Ledger.check_tables` in a thread of its own, for an event loop."""
    if not ledger.blocking:
        return
    threads = DaemonThreads("rail-tasks-tables")
    try:
        async with asyncio.timeout(CHECK_TIMEOUT):
            await asyncio.wrap_future(threads.submit(ledger.check_tables))
    except TimeoutError:
        return
    finally:
        threads.shutdown()


def log_missing(error: TablesMissing) -> None:
    """Logs that tables are missing: one line in half a minute, without a traceback."""
    _backoff.failed(str(error))


def log_found() -> None:
    """Logs that the tables are there, if their lack was logged."""
    _backoff.recovered()
