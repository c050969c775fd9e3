"""Hands new executions and cancels to the runtime of this process, or runs them in the caller."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import InterfaceError, OperationalError

from rail_async_tasks.backends.port import Backend
from rail_async_tasks.conf import get_settings
from rail_async_tasks.errors import BackendUnavailable
from rail_async_tasks.forks import after_fork
from rail_async_tasks.hooks import contained
from rail_async_tasks.hosting import process
from rail_async_tasks.hosting.uncommitted import StartAfterCommit
from rail_async_tasks.ledger.records import Created, NewExecution
from rail_async_tasks.ledger.snapshots import as_created
from rail_async_tasks.registry import registry
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.states import WAITING

if TYPE_CHECKING:
    from rail_async_tasks.runtime.inline import InlineRun

# Executions that arrive in one step of the loop: a fraction of a millisecond's work.
ARRIVALS_AT_ONCE: Final = 50
# Executions of a resumed queue that are read at once, to be run inline.
RUN_AT_ONCE: Final = 100


class Submission(Protocol):
    """How an execution is stored, and begins. Chosen by the backend of the settings."""

    async def asubmit(self, new: NewExecution) -> TaskSnapshot:
        """Store the execution; returns it as it stands at its creation.

        With a unique key that an unfinished execution has, that one is returned instead.
        """
        ...

    def submit(self, new: NewExecution) -> TaskSnapshot:
        """`asubmit` for a thread that has no running event loop.

        In a transaction of the thread's the row is part of it, and begins after its commit.
        """
        ...

    def submit_many(self, pages: Iterable[Sequence[NewExecution]]) -> list[TaskSnapshot]:
        """`submit` for several executions, which are all stored before the first one begins.

        Each page is asked for once the one before it is stored.
        """
        ...

    async def aprepare(self) -> None:
        """Make ready on this loop what a `submit_many` in a thread would make ready there."""
        ...

    def cancel(self, execution_id: UUID) -> None:
        """Ask a body that runs here to end; its row has the request already."""
        ...

    def queue_changed(self, queue: str) -> None:
        """Heed that a queue was paused or resumed, as soon as that is committed."""
        ...


class ToRuntime:
    """Hands executions to the runtime of this process; starts it if there is none.

    Args:
        own_thread: it starts in a loop thread; otherwise in the running loop, of a server or a
            script.
    """

    def __init__(self, *, own_thread: bool) -> None:
        self._own_thread = own_thread

    async def asubmit(self, new: NewExecution) -> TaskSnapshot:
        runtime = process.current()
        if runtime is None or runtime.loop is not asyncio.get_running_loop():
            runtime = await process.aruntime(in_thread=self._own_thread)
            return await process.across(runtime, runtime.creations.create(new))
        return await runtime.creations.create(new)

    def submit(self, new: NewExecution) -> TaskSnapshot:
        ledger = process.ledger()
        if ledger.in_transaction():
            created = ledger.create_here(new)
            snapshot = stored(new, created)
            if created.existing is None:
                self._start_after_commit([snapshot])
            return snapshot
        runtime = process.runtime_in_thread()
        return process.from_thread(runtime, runtime.creations.create(new))

    def submit_many(self, pages: Iterable[Sequence[NewExecution]]) -> list[TaskSnapshot]:
        ledger = process.ledger()
        try:
            made = ledger.create_many_here(pages)
        except (OperationalError, InterfaceError) as error:
            if ledger.in_transaction():
                raise  # it is the caller's transaction that has failed
            message = "The tasks could not be stored: the database fails."
            raise BackendUnavailable(message) from error
        if made.fresh:
            self._start_after_commit(made.fresh)
        return made.stored

    async def aprepare(self) -> None:
        await process.aruntime(in_thread=self._own_thread)

    def _start_after_commit(self, fresh: Sequence[TaskSnapshot]) -> None:
        ledger = process.ledger()
        if ledger.in_transaction():
            ledger.on_commit(StartAfterCommit(self._start, fresh))
        else:
            self._start(fresh)

    def _start(self, fresh: Sequence[TaskSnapshot]) -> None:
        runtime = process.runtime_in_thread()
        # Here, so that the caller's next start counts them. All are of one owner.
        process.admission().left_waiting(fresh[0].owner_id, len(fresh))
        for first in range(0, len(fresh), ARRIVALS_AT_ONCE):
            page = fresh[first : first + ARRIVALS_AT_ONCE]
            process.call_soon(runtime, partial(runtime.creations.arrived_many, page))

    def cancel(self, execution_id: UUID) -> None:
        runtime = process.current()
        if runtime is not None:
            process.call_soon(runtime, lambda: runtime.running.cancel(execution_id))

    def queue_changed(self, queue: str) -> None:
        process.ledger().on_commit(self._look_at_queues)

    def _look_at_queues(self) -> None:
        runtime = process.current()
        if runtime is None:
            return
        if runtime.loop is asyncio._get_running_loop():
            runtime.queues_changed()  # before the caller's next creation
        else:
            process.call_soon(runtime, runtime.queues_changed)


class Inline:
    """Runs executions to their end in the caller's thread and transaction."""

    async def asubmit(self, new: NewExecution) -> TaskSnapshot:
        return await sync_to_async(contained(self.submit))(new)

    def submit(self, new: NewExecution) -> TaskSnapshot:
        return _inline_run().create(new)

    def submit_many(self, pages: Iterable[Sequence[NewExecution]]) -> list[TaskSnapshot]:
        return _inline_run().create_many(pages)

    async def aprepare(self) -> None:
        """Does nothing: there is no runtime."""

    def cancel(self, execution_id: UUID) -> None:
        """Does nothing: no body runs while its caller can ask for a cancel."""

    def queue_changed(self, queue: str) -> None:
        """Run what waits in a resumed queue, each execution to its end, in the transaction."""
        ledger, run = process.ledger(), _inline_run()
        while waiting := ledger.waiting_in(queue, registry.names(), RUN_AT_ONCE):
            for execution_id in waiting:
                if run.run(execution_id).status in WAITING:
                    return  # the queue is paused, perhaps by one of the bodies


def _inline_run() -> InlineRun:
    # The bodies' machinery: a command that starts no task does without it.
    from rail_async_tasks.runtime.inline import InlineRun

    return InlineRun(get_settings(), registry, process.ledger(), process.bus())


def stored(new: NewExecution, created: Created) -> TaskSnapshot:
    """Returns the execution that is there now: the new one, or the one that has its unique key."""
    return created.existing or as_created(new, created)


_INLINE: Final = Inline()
_IN_LOOP: Final = ToRuntime(own_thread=False)
_IN_THREAD: Final = ToRuntime(own_thread=True)

# Takes the place of each of these in a test that runs its tasks itself.
_replacement: Submission | None = None


def replacement() -> Submission | None:
    """Returns what takes the place of the backend's submission, if anything does."""
    return _replacement


def replace(submission: Submission | None) -> None:
    """Submits executions of every backend there; None ends that. For tests."""
    global _replacement
    _replacement = submission


# A server that a test forks runs its tasks itself.
after_fork(lambda: replace(None))


def submission_for(backend: Backend) -> Submission:
    """Returns how executions of this backend are submitted."""
    if _replacement is not None:
        return _replacement
    if backend.inline:
        return _INLINE
    return _IN_THREAD if backend.own_thread else _IN_LOOP
