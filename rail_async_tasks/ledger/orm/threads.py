"""The threads that write for a process, and calls that run in them, on their connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar
from uuid import uuid4

from django.db import OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from rail_async_tasks.ledger.batch import Batch
from rail_async_tasks.ledger.locks import delay_after, is_lock_refusal, without_waiting
from rail_async_tasks.ledger.operations import Change, Read
from rail_async_tasks.ledger.options import ReadOptions
from rail_async_tasks.ledger.records import OnFault, WriterState
from rail_async_tasks.ledger.session import WriterSession
from rail_async_tasks.ledger.vendors import batch_on
from rail_async_tasks.ledger.writer import Writer

T = TypeVar("T")


class WriterThreads:
    """Two writers, each with a connection of its own; one for all on SQLite. See `upkeep.Writers`.

    `intake` writes creations and claims by queue. `outcomes` writes all else. Calls by `run_aside`,
    claims of deliveries among them, go to the one that has less to do.
    """

    def __init__(self, alias: str, *, options: ReadOptions) -> None:
        self._alias = alias
        # Names this ledger in notices, which it need not heed itself.
        self.sender = uuid4()

        def batch(connection: BaseDatabaseWrapper) -> Batch:
            return batch_on(connection, audited=options().audit)

        open_session = partial(WriterSession, alias, batch)
        self.intake = Writer("rail-tasks-intake", open_session)
        # SQLite lets one write at a time: a second thread would only wait for the first, asleep.
        self.outcomes = self.intake
        if connections[alias].vendor != "sqlite":
            self.outcomes = Writer("rail-tasks-outcomes", open_session)

    def start(self, on_fault: OnFault | None = None) -> None:
        loop = asyncio.get_running_loop()
        for writer in self._distinct():
            writer.start(loop, on_fault)

    async def stop(self) -> None:
        for writer in self._distinct():
            await writer.stop()

    def give_up_locked(self) -> None:
        self.intake.give_up_locked()

    def abandon_locked(self) -> None:
        for writer in self._distinct():
            writer.abandon_locked()

    def states(self) -> Sequence[WriterState]:
        return [writer.state() for writer in self._distinct()]

    def _distinct(self) -> Sequence[Writer]:
        return list(dict.fromkeys((self.intake, self.outcomes)))

    # --- calls in a writer's thread --------------------------------------------------------------

    async def read(self, read: Callable[[], T]) -> T:
        """Returns `read()`; fails where the database does, for a caller that reads again."""
        result: T = await answer(self.outcomes, lambda done: Read(read, done))
        return result

    async def run(self, call: Callable[[], T]) -> T:
        """Returns `call()`, which must be idempotent: it is repeated until the database answers."""
        result: T = await answer(self.outcomes, lambda done: Change(call, done))
        return result

    async def run_once(self, call: Callable[[], T]) -> T:
        """Returns `call()`; fails where the database does, for a caller that calls again."""
        result: T = await answer(self.outcomes, lambda done: Change(call, done, once=True))
        return result

    async def run_aside(self, call: Callable[[], T]) -> T:
        """Returns `call()`, run by the writer that has less to do; on SQLite they are one."""
        writer = min((self.outcomes, self.intake), key=lambda it: it.pending)
        result: T = await answer(writer, lambda done: Change(call, done))
        return result

    async def change(self, change: Callable[[], T]) -> T:
        """Returns `change()`, run in a transaction that never waits for a lock.

        Where it would, this coroutine waits in place of the writer's thread, and tries again.
        """
        tries = 1
        while (made := await self.run(lambda: self._try(change))) is None:
            await asyncio.sleep(delay_after(tries))
            tries += 1
        return made[0]

    async def change_once(self, change: Callable[[], T], otherwise: T) -> T:
        """Returns `change()`; `otherwise`, and no change, where it would wait for a lock."""
        made = await self.run_once(lambda: self._try(change))
        return otherwise if made is None else made[0]

    def _try(self, change: Callable[[], T]) -> tuple[T] | None:
        """Returns the result in a tuple; None, and no change, where it would wait for a lock."""
        try:
            with without_waiting(connections[self._alias]):
                return (change(),)
        except OperationalError as error:
            if not is_lock_refusal(error):
                raise
            return None


async def answer(writer: Writer, operation: Callable[[Callable[[Any], None]], Any]) -> Any:
    """Submits the operation that is made with a callback; returns what the writer reports."""
    waiter: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def done(result: Any) -> None:
        if waiter.done():  # the caller was cancelled
            return
        if isinstance(result, BaseException):
            waiter.set_exception(result)
        else:
            waiter.set_result(result)

    writer.submit(operation(done))
    return await waiter
