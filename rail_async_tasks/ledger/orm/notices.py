"""Notices by LISTEN and NOTIFY of PostgreSQL, on a connection that does nothing else.

Behind a pooler of transactions a session can't listen, and PostgreSQL does not say so. So a probe
is sent on another connection: where it does not arrive, rows are polled, as on other databases.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final
from uuid import UUID

from django.db import connections

from rail_async_tasks.backoff import Backoff
from rail_async_tasks.db_connections import listening_connection
from rail_async_tasks.hooks import as_error
from rail_async_tasks.ledger.notices import Envelope, Notice, OnNotice, decode, encode
from rail_async_tasks.ledger.orm.threads import WriterThreads
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.text import describe
from rail_async_tasks.vital import make_vital

logger = get_logger("rail_async_tasks.ledger")

CHANNEL: Final = "rail_async_tasks"
PROBE: Final = "probe"
# All in seconds. A probe that has not come back by then is lost.
PROBE_TIMEOUT: Final = 5.0
# Between two probes where they are lost: an operator may change the pooler.
DEAF_PAUSE: Final = 300.0
# Between two tries to connect, at most.
LONGEST_PAUSE: Final = 30.0


def notify(alias: str, sender: UUID, notice: str, execution_id: UUID | None = None) -> None:
    """Sends a notice in this thread's transaction; it leaves with the commit.

    Does nothing on other databases than PostgreSQL.
    """
    connection = connections[alias]
    if connection.vendor != "postgresql":
        return
    text = encode(Envelope(sender, notice, execution_id))
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", [CHANNEL, text])


class _Deaf(Exception):
    """The probe was lost."""


class PostgresNotices:
    """See `notices.Notices`.

    Args:
        probe_timeout, deaf_pause: in seconds; see the constants.
    """

    def __init__(
        self,
        alias: str,
        *,
        threads: WriterThreads,
        probe_timeout: float = PROBE_TIMEOUT,
        deaf_pause: float = DEAF_PAUSE,
    ) -> None:
        self._alias = alias
        self._threads = threads
        self._probe_timeout = probe_timeout
        self._deaf_pause = deaf_pause
        self._probed: asyncio.Future[None] | None = None
        self._on_notice: OnNotice = _ignore
        self._backoff = Backoff(
            "Listening for notices of other processes failed",
            "Rows are polled meanwhile", log=logger, longest=LONGEST_PAUSE,
        )  # fmt: skip
        self.heard = False

    async def send(self, notice: Notice) -> None:
        await self._threads.run_once(partial(notify, self._alias, self._threads.sender, notice))

    async def run(self, on_notice: OnNotice) -> None:
        self._on_notice = on_notice
        if connections[self._alias].settings_dict.get("DISABLE_SERVER_SIDE_CURSORS"):
            return  # the project says that there is a pooler
        while True:
            try:
                await self._listen()
            except NotImplementedError:
                return  # this event loop watches no file descriptors
            except _Deaf:
                logger.info(
                    "Notices of PostgreSQL do not arrive here, as behind a pooler of transactions:"
                    " what other processes leave is found by polling"
                )
                pause = self._deaf_pause
            except Exception as error:  # noqa: BLE001 (whatever the driver raises)
                pause = self._backoff.failed(describe(error), error)
            await asyncio.sleep(pause)

    async def _listen(self) -> None:
        """Listens until the connection fails, which raises."""
        loop = asyncio.get_running_loop()
        connection = await _Opening(partial(_open, self._alias)).done()
        try:
            place, broken = connection.pgconn.socket, loop.create_future()
            loop.add_reader(place, self._read, place, connection.pgconn, broken)
            try:
                await self._probe(broken)
                self._backoff.recovered()
                self.heard = True
                for notice in (Notice.DUE, Notice.QUEUES):  # some may have come before
                    self._on_notice(notice, None)
                await broken
            finally:
                self.heard = False
                loop.remove_reader(place)
                if broken.done() and not broken.cancelled():
                    broken.exception()  # the probe may have failed before anything awaited it
        finally:
            connection.close()

    async def _probe(self, broken: asyncio.Future[None]) -> None:
        self._probed = probed = asyncio.get_running_loop().create_future()
        await self._threads.run_once(partial(notify, self._alias, self._threads.sender, PROBE))
        await asyncio.wait(
            {probed, broken}, timeout=self._probe_timeout, return_when=asyncio.FIRST_COMPLETED
        )
        if broken.done():  # it does not hear for that, and may be opened again soon
            await broken
        if not probed.done():
            raise _Deaf

    def _read(self, place: int, pgconn: Any, broken: asyncio.Future[None]) -> None:
        """Takes what has come, without waiting. On the loop, when there is something to read."""
        try:
            pgconn.consume_input()
            while (found := pgconn.notifies()) is not None:
                self._take(decode(found.extra))
        except Exception as error:  # noqa: BLE001 (whatever the driver raises)
            broken.get_loop().remove_reader(place)
            if not broken.done():
                broken.set_exception(error)

    def _take(self, envelope: Envelope | None) -> None:
        if envelope is None:
            return
        if envelope.sender == self._threads.sender:
            if envelope.notice == PROBE and self._probed is not None and not self._probed.done():
                self._probed.set_result(None)
        elif envelope.notice in set(Notice):  # a later version may know others
            self._on_notice(Notice(envelope.notice), envelope.execution_id)


def _open(alias: str) -> Any:
    """Opens a connection that listens; returns psycopg's own, which a loop may close."""
    connection = listening_connection(alias)
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"LISTEN {CHANNEL}")
    except BaseException:
        connection.close()
        raise
    return connection.connection


class _Opening:
    """Opens a connection in a thread of its own, as that may take seconds.

    Args:
        call: opens one.
    """

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._lock = threading.Lock()
        self._abandoned = False
        self._opened: Any = None
        self._error: Exception | None = None

    async def done(self) -> Any:
        """Returns the open connection; raises what `call` has raised."""
        threading.Thread(target=self._run, name="rail-tasks-listen", daemon=True).start()
        try:
            await self._ended.wait()
        except asyncio.CancelledError:
            with self._lock:
                self._abandoned = True
            if self._opened is not None:
                self._opened.close()
            raise
        if self._error is not None:
            raise self._error
        return self._opened

    def _run(self) -> None:
        make_vital()
        opened: Any = None
        try:
            opened = self._call()
        except BaseException as error:  # noqa: BLE001 (a receiver of `connection_created`)
            self._error = as_error(error, "Connecting to the database")
        with self._lock:
            if not self._abandoned:
                self._opened, opened = opened, None
        if opened is not None:
            opened.close()
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._ended.set)


def _ignore(notice: Notice, execution_id: UUID | None) -> None:
    """Takes notices that come before `run`: there are none."""
