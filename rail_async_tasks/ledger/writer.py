"""The group-commit writer: a thread with one lasting connection that writes what comes in batches.

While the database writes a batch the next one gathers, so the batch grows with the load, and a lone
write does not wait. Each submitted operation is written or reported as failed, never dropped:

* A transient failure (a locked database, a lost connection) repeats the whole batch, on a fresh
  connection, until it goes through. The session finds out whether a lost COMMIT took effect: its
  statements must be idempotent. The caller of an operation may set a limit.
* Any other failure splits the batch in halves: in the end only the guilty operation gets the error.
* An operation that another transaction's lock holds up waits apart (`postponed.py`); meanwhile the
  thread writes all others.

Another error ends the vital thread: it fails all operations, and calls the runtime's `on_fault`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

from django.db import InterfaceError

from rail_async_tasks.backoff import Backoff
from rail_async_tasks.hooks import as_error
from rail_async_tasks.ledger.gathering import Gathering
from rail_async_tasks.ledger.postponed import Postponed
from rail_async_tasks.ledger.records import OnFault, WriterState
from rail_async_tasks.ledger.waiters import Waiters
from rail_async_tasks.ledger.writer_port import AGAIN, ONCE, Operation, Session
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.text import describe
from rail_async_tasks.vital import make_vital

logger = get_logger("rail_async_tasks.ledger")

# A statement's cost grows faster than its rows much beyond this, and neighbours wait for it.
MAX_BATCH = 500
# Past this backlog creation and claims wait: about a second's work for either database.
HIGH_WATER, LOW_WATER = 4000, 2000
# Seconds before a failed batch is repeated.
FIRST_BACKOFF, MAX_BACKOFF = 0.05, 2.0


class Writer:
    """Runs a session in a daemon thread and reports to one event loop."""

    def __init__(self, name: str, open_session: Callable[[], Session]) -> None:
        self._name, self._open_session = name, open_session
        self._gathering = Gathering()
        self._of_thread = threading.local()  # the loop to which the thread reports
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Event | None = None  # of the thread; None without one
        self._on_fault: OnFault | None = None
        self._closed = False
        self._unreported: list[Any] = []  # of the batch that is being written; of the thread
        self._pending = 0  # submitted and not yet reported; touched on the loop only
        self._postponed = Postponed(self._offer, self._deliver)
        self._relief, self._idle = Waiters(), Waiters()
        self.batches = self.written = 0
        self._backoff = Backoff(
            f"{name} cannot write", "It tries again until it works", log=logger,
            recovery=f"{name} works again", shortest=FIRST_BACKOFF, longest=MAX_BACKOFF,
        )  # fmt: skip

    def start(self, loop: asyncio.AbstractEventLoop, on_fault: OnFault | None = None) -> None:
        """Starts the thread. `on_fault` is called on the loop if an error ends it."""
        # A loop that was closed in its last step has left operations behind, and perhaps a thread,
        # which writes them and reports to that loop.
        self._gathering.end()
        self._gathering = Gathering()
        self._pending = 0
        thread = threading.Thread(
            target=self._run, args=(self._gathering, loop), name=self._name, daemon=True
        )
        self._loop, self._on_fault, self._closed = loop, on_fault, False
        self._postponed = Postponed(self._offer, self._deliver)
        thread.start()
        self._ended = asyncio.Event()

    def submit(self, operation: Operation) -> None:
        """Hands over one operation. On the loop; never blocks."""
        if self._closed:
            assert self._loop is not None
            self._loop.call_soon(operation.done, InterfaceError("The writer has been stopped."))
            return
        self._pending += 1
        if not self._postponed.joins(operation):
            self._offer(operation)

    def _offer(self, operation: Operation) -> None:
        assert self._loop is not None
        self._gathering.put(operation, self._loop)

    @property
    def pending(self) -> int:
        """Operations that have been submitted and not reported."""
        return self._pending

    @property
    def _backlog(self) -> int:
        """Pending operations that the thread can get on with."""
        return self._pending - len(self._postponed)

    @property
    def congested(self) -> bool:
        """Returns whether the backlog is past the high-water mark."""
        return self._backlog >= HIGH_WATER

    @property
    def failing_since(self) -> float | None:
        """The monotonic time of the first failure in a row; None while it works."""
        return self._backoff.failing_since

    def state(self) -> WriterState:
        """Returns the thread's state. May be called in any thread."""
        failing_since = self.failing_since
        return WriterState(
            name=self._name,
            backlog=self._pending,
            batches=self.batches,
            written=self.written,
            congested=self.congested,
            failing_for=None if failing_since is None else time.monotonic() - failing_since,
        )

    async def relieved(self) -> None:
        """Returns once the backlog has fallen to the low-water mark."""
        if self.congested:
            await self._relief.wait()

    async def flushed(self) -> None:
        """Returns once all that was submitted so far, and meanwhile, has been reported."""
        if self._pending:
            await self._idle.wait()

    def give_up_locked(self) -> None:
        """Reports the operations with a limit that locks hold up, now and later, as failed."""
        self._postponed.end()

    def abandon_locked(self) -> None:
        """Reports all operations that locks hold up, now and later, as failed."""
        self._postponed.abandon()

    async def stop(self) -> None:
        """Flushes, then ends the thread, if there is one, and closes its connection."""
        if self._ended is None:
            return
        await self.flushed()
        self._closed = True
        if not self._ended.is_set():
            self._gathering.end()
        await self._ended.wait()

    # --- in the writer's thread ------------------------------------------------------------------

    def _run(self, gathering: Gathering, loop: asyncio.AbstractEventLoop) -> None:
        make_vital()
        self._of_thread.loop = loop
        session: Session | None = None
        fault: BaseException | None = None
        try:
            session = self._open_session()
            while batch := gathering.take(MAX_BATCH):
                self._unreported = batch
                self._write(session, batch)
                self._unreported = []
        except BaseException as error:  # a thread that ends in silence would hang its callers
            logger.critical("%s: the thread has ended by an error", self._name, exc_info=True)
            fault = error
        if session is not None:
            _reset(session)
        self._call_loop(self._over, fault)

    def _write(self, session: Session, batch: list[Any]) -> None:
        settled = True  # no COMMIT of this batch is in doubt
        self._backoff.begin()  # batches before it may have failed without a wait
        while True:
            try:
                results = session.execute(batch)
            except BaseException as raised:  # a database backend or a router of the project's
                error = as_error(raised, "The database's driver")
                if session.is_transient(error):
                    pause = self._backoff.failed(describe(error))
                    settled = settled and not session.may_have_committed
                    _reset(session)
                    batch = self._without_overdue(batch, error, certain=settled)
                    if not batch:
                        return
                    time.sleep(pause)
                    continue
                _reset(session)  # it may be the connection's own state that the database minds
                self._split(session, batch, error)
                return
            self._backoff.recovered()
            self.batches += 1
            pairs = list(zip(batch, results, strict=True))
            again = [operation for operation, result in pairs if result is AGAIN]
            self.written += len(batch) - len(again)
            if len(again) < len(pairs):
                self._report([pair for pair in pairs if pair[1] is not AGAIN])
            if again:
                self._mark_reported(again)  # from now on they are the loop's
                self._call_loop(self._postpone, again, settled)
            return

    def _without_overdue(self, batch: list[Any], error: Exception, *, certain: bool) -> list[Any]:
        """Reports the operations that have waited long enough; returns the others.

        Where it is not `certain` that nothing was written, reads alone, which are tried once.
        """
        latest = time.monotonic() if certain else ONCE
        overdue = [op for op in batch if op.give_up_at is not None and op.give_up_at <= latest]
        if overdue:
            self._report([(operation, error) for operation in overdue])
        return [op for op in batch if op.give_up_at is None or op.give_up_at > latest]

    def _split(self, session: Session, batch: list[Any], error: Exception) -> None:
        if len(batch) == 1:
            self._report([(batch[0], error)])
            return
        middle = len(batch) // 2
        self._write(session, batch[:middle])
        self._write(session, batch[middle:])

    def _report(self, results: list[tuple[Any, Any]]) -> None:
        self._mark_reported([operation for operation, _ in results])
        self._call_loop(self._deliver, results)

    def _mark_reported(self, operations: list[Any]) -> None:
        if len(operations) == len(self._unreported):
            self._unreported = []
            return
        reported = {id(operation) for operation in operations}
        self._unreported = [it for it in self._unreported if id(it) not in reported]

    def _call_loop(self, callback: Callable[..., None], *args: Any) -> None:
        try:
            self._of_thread.loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            # A script closed its loop in the middle of a write: the rows are safe.
            logger.debug("%s: the loop is closed, a result is not reported", self._name)

    # --- on the loop -----------------------------------------------------------------------------

    def _postpone(self, operations: list[Any], certain: bool) -> None:
        self._postponed.add(operations, certain=certain)
        self._relieve()

    def _over(self, fault: BaseException | None) -> None:
        """Reports the end of the thread: in order, or by an error."""
        assert self._ended is not None
        if fault is not None:
            self._closed = True
            left = [*self._postponed.drop(), *self._unreported, *self._gathering.drop()]
            self._unreported = []
            error = InterfaceError(f"{self._name} has ended by an error: {fault!r:.200}")
            self._deliver([(operation, error) for operation in left])
        self._ended.set()
        if fault is not None and self._on_fault is not None:
            self._on_fault(self._name, fault)

    def _deliver(self, results: list[tuple[Any, Any]]) -> None:
        self._pending -= len(results)
        for operation, result in results:
            if self._postponed.active:
                self._postponed.reported(operation, failed=isinstance(result, BaseException))
            try:
                operation.done(result)
            except Exception:  # its neighbours get their results all the same
                logger.exception("%s: a callback failed", self._name)
        self._relieve()
        if self._idle and not self._pending:
            self._idle.release()

    def _relieve(self) -> None:
        if self._relief and self._backlog <= LOW_WATER:
            self._relief.release()


def _reset(session: Session) -> None:
    try:
        session.reset()
    except Exception:  # it was lost anyway
        logger.debug("A connection could not be closed", exc_info=True)
