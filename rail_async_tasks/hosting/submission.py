"""Hands new executions and cancels to the runtime of this process, or runs them in the caller."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar, Final, Protocol
from uuid import UUID

from asgiref.sync import sync_to_async

from rail_async_tasks.backends.port import Backend
from rail_async_tasks.conf import get_settings
from rail_async_tasks.forks import after_fork
from rail_async_tasks.hooks import contained
from rail_async_tasks.hosting import process
from rail_async_tasks.ledger.records import Created, NewExecution
from rail_async_tasks.registry import registry
from rail_async_tasks.runtime.inline import InlineRun
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.states import WAITING

# Executions that arrive in one step of the loop: a fraction of a millisecond's work.
ARRIVALS_AT_ONCE: Final = 50
# Executions of a resumed queue that are read at once, to be run inline.
RUN_AT_ONCE: Final = 100


class Submission(Protocol):
    """How an execution is stored, and begins. Chosen by the backend of the settings.

    Attributes:
        in_caller: `submit` stores in the caller's thread and transaction.
    """

    in_caller: ClassVar[bool]

    async def asubmit(self, new: NewExecution) -> TaskSnapshot:
        """Store the execution; returns it as it stands at its creation.

        With a unique key that an unfinished execution has, that one is returned instead.
        """
        ...

    def submit(self, new: NewExecution) -> TaskSnapshot:
        """`asubmit` for a thread that has no running event loop."""
        ...

    def submit_many(self, news: Sequence[NewExecution]) -> list[TaskSnapshot]:
        """`submit` for several executions, which are all stored before the first one begins."""
        ...

    def arrived_many(self, made: Sequence[tuple[NewExecution, Created]]) -> None:
        """Begin what a caller's transaction has inserted, after its commit. In any thread."""
        ...

    def cancel(self, execution_id: UUID) -> None:
        """Ask a body that runs here to end; its row has the request already."""
        ...

    def queue_changed(self, queue: str) -> None:
        """Heed at once that a queue was paused or resumed, which is stored already."""
        ...


class ToRuntime:
    """Hands executions to the runtime of this process; starts it if there is none.

    Args:
        own_thread: it starts in a loop thread; otherwise in the running loop, of a server or a
            script.
    """

    in_caller: ClassVar[bool] = False

    def __init__(self, *, own_thread: bool) -> None:
        self._own_thread = own_thread

    async def asubmit(self, new: NewExecution) -> TaskSnapshot:
        runtime = process.current()
        if runtime is None or runtime.loop is not asyncio.get_running_loop():
            runtime = await process.aruntime(in_thread=self._own_thread)
            return await process.across(runtime, runtime.creations.create(new))
        return await runtime.creations.create(new)

    def submit(self, new: NewExecution) -> TaskSnapshot:
        runtime = process.runtime_in_thread()
        return process.from_thread(runtime, runtime.creations.create(new))

    def submit_many(self, news: Sequence[NewExecution]) -> list[TaskSnapshot]:
        """Never called: many are stored by the caller, and then arrive."""
        raise NotImplementedError

    def arrived_many(self, made: Sequence[tuple[NewExecution, Created]]) -> None:
        runtime, admission = process.runtime_in_thread(), process.admission()
        for new, _ in made:  # here, so that the caller's next start counts them
            admission.left_waiting(new.owner_id)
        for first in range(0, len(made), ARRIVALS_AT_ONCE):
            page = made[first : first + ARRIVALS_AT_ONCE]
            process.call_soon(runtime, partial(_arrive, runtime.creations.arrived, page))

    def cancel(self, execution_id: UUID) -> None:
        runtime = process.current()
        if runtime is not None:
            process.call_soon(runtime, lambda: runtime.running.cancel(execution_id))

    def queue_changed(self, queue: str) -> None:
        runtime = process.current()
        if runtime is None:
            return
        if runtime.loop is asyncio._get_running_loop():
            runtime.queues_changed()  # before the caller's next creation
        else:
            process.call_soon(runtime, runtime.queues_changed)


class Inline:
    """Runs executions to their end in the caller's thread and transaction."""

    in_caller: ClassVar[bool] = True

    async def asubmit(self, new: NewExecution) -> TaskSnapshot:
        return await sync_to_async(contained(self.submit))(new)

    def submit(self, new: NewExecution) -> TaskSnapshot:
        run = InlineRun(get_settings(), registry, process.ledger(), process.bus())
        return run.create(new)

    def submit_many(self, news: Sequence[NewExecution]) -> list[TaskSnapshot]:
        run = InlineRun(get_settings(), registry, process.ledger(), process.bus())
        return run.create_many(news)

    def arrived_many(self, made: Sequence[tuple[NewExecution, Created]]) -> None:
        """Never called: `submit` inserts and runs in the caller's transaction."""

    def cancel(self, execution_id: UUID) -> None:
        """Does nothing: no body runs while its caller can ask for a cancel."""

    def queue_changed(self, queue: str) -> None:
        """Run what waits in a queue that was resumed, each execution to its end."""
        ledger = process.ledger()
        run = InlineRun(get_settings(), registry, ledger, process.bus())
        while waiting := ledger.waiting_in(queue, registry.names(), RUN_AT_ONCE):
            for execution_id in waiting:
                if run.run(execution_id).status in WAITING:
                    return  # the queue is paused, perhaps by one of the bodies


def _arrive(
    arrived: Callable[[NewExecution, Created], None], made: Sequence[tuple[NewExecution, Created]]
) -> None:
    for new, created in made:
        arrived(new, created)


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
