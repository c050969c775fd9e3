"""TaskHandle: a task that was started from Python, to read again and to wait for."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, Generic, Self
from uuid import UUID

from asgiref.sync import async_to_sync
from typing_extensions import TypeVar

from rail_async_tasks.access import SYSTEM
from rail_async_tasks.errors import BackendUnavailable, TaskCancelled, TaskFailed
from rail_async_tasks.foreign_names import OF_HANDLES, missing
from rail_async_tasks.public_errors import is_declared
from rail_async_tasks.runtime.attempts.waits import Maker, Stray, waiting_for
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.states import Status

# The result. The default lets one write a bare `TaskHandle`.
R_co = TypeVar("R_co", covariant=True, default=Any)

_NO_SNAPSHOT: Final = (
    "TaskHandle is not made from {given!r}: enqueue() and aenqueue() return one. From an id alone,"
    " read the task by rail_async_tasks.models.TaskExecution.objects.get(id=...); cancel or retry"
    " it by GraphQL, REST or `manage.py tasks`."
)


class TaskHandle(Generic[R_co]):
    """A started task, with its state when it was last read."""

    __slots__ = ("_maker", "_snapshot")

    def __init__(self, snapshot: TaskSnapshot, *, _maker: Maker | None = None) -> None:
        if not isinstance(snapshot, TaskSnapshot):
            raise TypeError(_NO_SNAPSHOT.format(given=type(snapshot).__name__))
        self._snapshot = snapshot
        self._maker = _maker or Maker.current()

    @property
    def id(self) -> UUID:
        return self._snapshot.id

    @property
    def status(self) -> str:
        """The state when it was last read; `refresh()` reads it again."""
        return str(self._snapshot.status)

    @property
    def snapshot(self) -> TaskSnapshot:
        """The whole task when it was last read."""
        return self._snapshot

    @property
    def __cause__(self) -> BaseException | None:
        """The exception of its last attempt, in a test that ran it by `rail_tasks.run()`."""
        from rail_async_tasks.hosting import held

        return held.cause_of(self.id)

    if not TYPE_CHECKING:  # type checkers know the attributes

        def __getattr__(self, name: str) -> Any:
            raise missing(self, name, OF_HANDLES, "handle")

    def __repr__(self) -> str:
        return f"<TaskHandle {self._snapshot.name} {self.id} {self.status}>"

    def refresh(self) -> Self:
        """Read the task again. Raises `TaskNotFound` once it has expired."""
        from rail_async_tasks import service

        self._snapshot = service.get(SYSTEM, self.id)
        return self

    async def arefresh(self) -> Self:
        """`refresh()` from async code."""
        from rail_async_tasks import service

        self._snapshot = await service.aget(SYSTEM, self.id)
        return self

    def cancel(self) -> Self:
        """Ask the task to end. Raises `AlreadyFinal` where it has."""
        from rail_async_tasks import service

        self._snapshot = service.cancel(SYSTEM, self.id)
        return self

    async def acancel(self) -> Self:
        """`cancel()` from async code."""
        from rail_async_tasks import service

        self._snapshot = await service.acancel(SYSTEM, self.id)
        return self

    def result(self, timeout: float | None = None) -> R_co:
        """Wait for the task, `timeout` seconds at most; returns its result.

        Raises `TaskFailed` or `TaskCancelled` where it ended so, `TimeoutError` where it has not
        ended in time, and `RuntimeError` on an event loop, which it would block.

        In a body it keeps the body's slot, and its thread. If no slot is left for the awaited task,
        the task runs beside the limits of this process. So it does where the body waits through a
        thread, if the body has made the handle or the thread has its context (`asyncio.to_thread`).
        A queue's own `concurrency` still holds, and so do the worker processes of a broker: where
        all of those run bodies that wait, nothing can go on until a timeout. A WARNING that
        contains "Deadlock?" then says which task waits for which. It also reports other threads
        whose task finds all slots held by the same bodies for five seconds. A loop that polls
        `refresh()` is not known to wait.

        After an `enqueue()` in a transaction, wait when the transaction is committed: before, this
        raises `WouldWaitForever`. So it does in a test whose tasks wait for `rail_tasks.run()`.
        """
        if not self._snapshot.is_final:
            from rail_async_tasks.hosting.endless_waits import refuse_endless_wait
            from rail_async_tasks.hosting.stray_threads import stray_thread

            if asyncio._get_running_loop() is not None:
                raise RuntimeError(
                    "result() was called on an event loop, which it would block: "
                    "write `await handle.aresult()`."
                )
            refuse_endless_wait(self._snapshot)
            # Reads go through this thread, and so through its connection and its transaction.
            async_to_sync(self._wait)(timeout, stray_thread())
        return self._outcome()

    async def aresult(self, timeout: float | None = None) -> R_co:
        """`result()` from async code."""
        if not self._snapshot.is_final:
            from rail_async_tasks.hosting.endless_waits import arefuse_endless_wait
            from rail_async_tasks.hosting.stray_threads import stray_thread

            await arefuse_endless_wait(self._snapshot)
            await self._wait(timeout, stray_thread())
        return self._outcome()

    async def _wait(self, timeout: float | None, stray: Stray | None) -> None:
        from rail_async_tasks import service

        scope = asyncio.timeout(timeout)
        try:
            with waiting_for(self._snapshot, maker=self._maker, stray=stray):
                async with scope, aclosing(service.watch(SYSTEM, self.id)) as snapshots:
                    async for snapshot in snapshots:
                        self._snapshot = snapshot
        except TimeoutError as error:
            if not scope.expired():
                raise
            task = f"Task {self._snapshot.name} ({self.id})"
            raise TimeoutError(
                f"{task} is still {self.status} after {timeout:g} s, and goes on."
                " `manage.py tasks doctor` says whether anything runs it."
            ) from error
        if not self._snapshot.is_final:
            # A watch that ends early was ended by the shutdown of this process.
            raise BackendUnavailable("This process stopped waiting: it is shutting down.")

    def _outcome(self) -> R_co:
        snapshot = self._snapshot
        if snapshot.status == Status.FAILED:
            code = snapshot.error_code or "exception"
            declared = is_declared(snapshot)
            raise TaskFailed(snapshot.error, error_code=code, declared=declared) from self.__cause__
        if snapshot.status == Status.CANCELLED:
            raise TaskCancelled(snapshot.error) from self.__cause__
        result: R_co = snapshot.result
        return result
