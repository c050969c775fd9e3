"""Runs the project's function: with its arguments, its owner, and what is entered around it."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from asgiref.sync import sync_to_async

from rail_async_tasks.declaration.definition import TaskDefinition
from rail_async_tasks.hooks import contained
from rail_async_tasks.language import speaking
from rail_async_tasks.ledger.records import Claimed
from rail_async_tasks.runtime.attempts.around import (
    AttemptInfo,
    Factory,
    around_coroutine,
    around_function,
)
from rail_async_tasks.runtime.attempts.calling import call, carried, decode
from rail_async_tasks.runtime.attempts.context import (
    ExecutionContext,
    TaskContext,
    TaskInfo,
    load_user,
)
from rail_async_tasks.runtime.attempts.orm_threads import Seat
from rail_async_tasks.runtime.attempts.threads import DaemonThreads, leaving_nothing


class Body:
    """The body of one attempt.

    Args:
        task: None where the function takes no `info`.
        around: the factory of `around_task`.
        who: names the attempt in the log.
    """

    __slots__ = (
        "_arguments",
        "_around",
        "_definition",
        "_snapshot",
        "_task",
        "_threads",
        "_who",
        "language",
    )

    def __init__(
        self,
        claimed: Claimed,
        definition: TaskDefinition,
        *,
        task: TaskContext | None,
        threads: DaemonThreads,
        around: Factory | None,
        who: object,
    ) -> None:
        self._snapshot = claimed.snapshot
        self._arguments = claimed.arguments
        self._definition = definition
        self._task = task
        self._threads = threads
        self._around = around
        self._who = who
        self.language: str | None = None  # of a body that does not run in LANGUAGE_CODE

    async def run(
        self, seat: Seat | None, cancellable: Callable[[], AbstractContextManager[None]]
    ) -> Any:
        """Runs the body in the current task, or in a thread; returns what it returns.

        Args:
            seat: where an `async def` body makes its ORM calls.
            cancellable: see `around_function`.
        """
        definition = self._definition
        arguments = decode(definition, self._arguments)
        if definition.is_coroutine:
            if self._around is None:
                return await self._coroutine(arguments)
            assert seat is not None, "every attempt of a coroutine has one"
            info = AttemptInfo.of(self._snapshot, definition, arguments)
            return await around_coroutine(
                self._around, info, partial(self._coroutine, arguments), seat
            )
        in_thread = partial(self._call, arguments)
        if self._around is None:
            return await self._in_thread(in_thread)
        info = AttemptInfo.of(self._snapshot, definition, arguments)
        return await around_function(self._around, info, in_thread, self._in_thread, cancellable)

    async def _coroutine(self, arguments: dict[str, Any]) -> Any:
        function, owner_id = self._definition.function, self._snapshot.owner_id
        if not self._definition.takes_info:
            return await call(function, (), arguments)
        user = (
            load_user(None)
            if owner_id is None
            else await sync_to_async(contained(load_user))(owner_id)
        )
        return await call(function, self._leading(user), arguments)

    def _call(self, arguments: dict[str, Any]) -> Any:
        function = self._definition.function
        if not self._definition.takes_info:
            return call(function, (), arguments)
        return call(function, self._leading(load_user(self._snapshot.owner_id)), arguments)

    async def _in_thread(self, run_it: Callable[[], Any]) -> Any:
        # A cancel of this task, such as by a loop that is shut down, ends only the wait. Without
        # the shield it would also drop a call that no thread has begun yet.
        # The thread has run other bodies: this one is in the attempt's own context.
        if self.language is not None:
            run_it = partial(speaking, self.language, run_it)
        run = partial(contextvars.copy_context().run, carried, run_it)
        future = self._threads.submit(leaving_nothing, run, self._who)
        return await asyncio.shield(asyncio.wrap_future(future))

    def _leading(self, user: Any) -> tuple[Any, ...]:
        """The parameters before the arguments: `(root, info)` or `(info,)`."""
        assert self._task is not None
        info = TaskInfo(ExecutionContext(self._task, user, self._snapshot.tenant_id))
        return (None, info) if self._definition.takes_root else (info,)
