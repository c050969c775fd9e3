"""Declaring tasks and starting them from Python: `@task`, and the `Task` that it makes.

The service, and with it the database, is imported when a task is started, not when it is declared:
a declaration may stand in any module, a `models.py` included.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    Protocol,
    Self,
    Unpack,
    overload,
)

import msgspec
from asgiref.sync import markcoroutinefunction
from typing_extensions import ParamSpec, TypeVar

from rail_async_tasks.declaration.definition import TaskDefinition, define
from rail_async_tasks.declaration.keywords import ScheduledKeywords
from rail_async_tasks.declaration.resolvers import refuse_tasks_as_resolvers
from rail_async_tasks.declaration.signatures import (
    Async,
    InfoT,
    P,
    R,
    RootT,
    WithInfo,
    WithRootAndInfo,
)
from rail_async_tasks.foreign_names import OF_TASKS, missing
from rail_async_tasks.handle import TaskHandle
from rail_async_tasks.registry import registry
from rail_async_tasks.using import UsingKeywords, enqueue_options, known

refuse_tasks_as_resolvers()

# The arguments, and what the body returns. Defaults, so that one may write a bare `Task`.
Arguments = ParamSpec("Arguments", default=...)
Result_co = TypeVar("Result_co", covariant=True, default=Any)
# What a call of the function returns, a coroutine or a value, and its whole signature. It stands
# last: Python 3.13.0 fails where another parameter follows a ParamSpec with a default.
Called_co = TypeVar("Called_co", covariant=True, default=Any)
Call = ParamSpec("Call", default=...)


class Task(Generic[Arguments, Result_co, Called_co, Call]):
    """A declared task. The decorator puts it in the function's place.

    For type checkers it is `Task[arguments, result]`: the function's parameters without root and
    info, and what its body returns. Two more parameters, which annotations may leave out, are the
    function as it is called directly.
    """

    # A template calls what it can call; a body must not run because a page shows its task.
    do_not_call_in_templates = True

    def __init__(self, definition: TaskDefinition) -> None:
        function = definition.function
        self.definition = definition
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__
        self.__qualname__ = definition.qualname
        self.__module__ = definition.module
        self.__wrapped__ = function
        self.__signature__ = inspect.signature(function)
        if definition.is_coroutine:
            markcoroutinefunction(self)

    @property
    def name(self) -> str:
        return self.definition.name

    if not TYPE_CHECKING:  # type checkers know the attributes

        def __getattr__(self, name: str) -> Any:
            raise missing(self, name, OF_TASKS, vars(self).get("__name__", "task"))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def __call__(self, /, *args: Call.args, **kwargs: Call.kwargs) -> Called_co:
        """Call the function itself, root and info included: a test of its body, say.

        No row is written, nothing is retried, and no timeout holds. An `async def` is awaited.
        """
        try:
            called: Called_co = self.definition.function(*args, **kwargs)
        except TypeError as error:
            # Raised in this very frame: the call does not fit the signature.
            if error.__traceback__ is not None and error.__traceback__.tb_next is None:
                error.add_note(
                    f"A call of {self.__name__} runs its body here. To start the task, write"
                    f" {self.__name__}.enqueue(...), or `await {self.__name__}.aenqueue(...)`."
                )
            raise
        return called

    def __get__(self, instance: object, owner: type | None = None) -> Self:
        """Returns the task: it is no method. `help()` and Sphinx show a function by this."""
        return self

    def enqueue(
        self, /, *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> TaskHandle[Result_co]:
        """Start the task. In a transaction it starts when that commits.

        Takes the function's arguments without root and info. Raises `TaskError`:
        `InvalidArguments`, `QueueFull`, `TasksDisabled` and others.
        """
        return self.using().enqueue(*args, **kwargs)

    async def aenqueue(
        self, /, *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> TaskHandle[Result_co]:
        """`enqueue()` from async code."""
        return await self.using().aenqueue(*args, **kwargs)

    def enqueue_many(self, calls: Iterable[Mapping[str, Any]], /) -> list[TaskHandle[Result_co]]:
        """Start the task once for each dict of arguments: all or none, in one transaction.

        Returns the handles in the same order. Raises as `enqueue()` does; `InvalidArguments` names
        the call by its number, from 0.
        """
        return self.using().enqueue_many(calls)

    async def aenqueue_many(
        self, calls: Iterable[Mapping[str, Any]], /
    ) -> list[TaskHandle[Result_co]]:
        """`enqueue_many()` from async code."""
        return await self.using().aenqueue_many(calls)

    def using(self, **keywords: Unpack[UsingKeywords]) -> BoundTask[Arguments, Result_co]:
        """Returns a copy of the task with options for its next start.

        `queue` and `priority` in place of the declared ones; `run_after` (an aware datetime) or
        `delay` (seconds or a timedelta): not before then; `unique_key`: one unfinished task per
        key; `owner`: the user (or their primary key) whose task it is; `tenant_id`.
        """
        return BoundTask(self.definition, known(keywords))


class BoundTask(msgspec.Struct, Generic[Arguments, Result_co], frozen=True):
    """A task with options for its next start."""

    definition: TaskDefinition
    keywords: UsingKeywords

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            raise missing(self, name, OF_TASKS, "task.using(...)")

    def using(self, **keywords: Unpack[UsingKeywords]) -> BoundTask[Arguments, Result_co]:
        """Returns a copy with these options too; earlier ones stay unless they are given again."""
        return BoundTask(self.definition, {**self.keywords, **known(keywords)})

    def enqueue(
        self, /, *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> TaskHandle[Result_co]:
        """As `Task.enqueue()`."""
        from rail_async_tasks import service

        arguments = self._named(args, kwargs)
        options = enqueue_options(self.keywords)
        return TaskHandle(service.enqueue(self.definition, arguments, options))

    async def aenqueue(
        self, /, *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> TaskHandle[Result_co]:
        """As `Task.aenqueue()`."""
        from rail_async_tasks import service

        arguments = self._named(args, kwargs)
        options = enqueue_options(self.keywords)
        return TaskHandle(await service.aenqueue(self.definition, arguments, options))

    def enqueue_many(self, calls: Iterable[Mapping[str, Any]], /) -> list[TaskHandle[Result_co]]:
        """As `Task.enqueue_many()`."""
        from rail_async_tasks import service

        options = enqueue_options(self.keywords)
        return list(map(TaskHandle, service.enqueue_many(self.definition, calls, options)))

    async def aenqueue_many(
        self, calls: Iterable[Mapping[str, Any]], /
    ) -> list[TaskHandle[Result_co]]:
        """As `Task.aenqueue_many()`."""
        from rail_async_tasks import service

        options = enqueue_options(self.keywords)
        return list(map(TaskHandle, await service.aenqueue_many(self.definition, calls, options)))

    def _named(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        return self.definition.codec.named(args, kwargs) if args else kwargs


class Declare(Protocol):
    """Makes a task of a function: what `@task(...)` and `@task_mutation(...)` return.

    The first two overloads are `(root, info, ...)`, the next two `(info, ...)`, the last two
    neither; of each two, the first is an `async def`.
    """

    @overload
    def __call__(
        self, function: WithRootAndInfo[RootT, InfoT, P, Async[R]], /
    ) -> Task[P, R, Async[R], Concatenate[RootT, InfoT, P]]: ...
    @overload
    def __call__(
        self, function: WithRootAndInfo[RootT, InfoT, P, R], /
    ) -> Task[P, R, R, Concatenate[RootT, InfoT, P]]: ...
    @overload
    def __call__(
        self, function: WithInfo[InfoT, P, Async[R]], /
    ) -> Task[P, R, Async[R], Concatenate[InfoT, P]]: ...
    @overload
    def __call__(
        self, function: WithInfo[InfoT, P, R], /
    ) -> Task[P, R, R, Concatenate[InfoT, P]]: ...
    @overload
    def __call__(self, function: Callable[P, Async[R]], /) -> Task[P, R, Async[R], P]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R, R, P]: ...


@overload
def task(
    function: WithRootAndInfo[RootT, InfoT, P, Async[R]], /
) -> Task[P, R, Async[R], Concatenate[RootT, InfoT, P]]: ...
@overload
def task(
    function: WithRootAndInfo[RootT, InfoT, P, R], /
) -> Task[P, R, R, Concatenate[RootT, InfoT, P]]: ...
@overload
def task(
    function: WithInfo[InfoT, P, Async[R]], /
) -> Task[P, R, Async[R], Concatenate[InfoT, P]]: ...
@overload
def task(function: WithInfo[InfoT, P, R], /) -> Task[P, R, R, Concatenate[InfoT, P]]: ...
@overload
def task(function: Callable[P, Async[R]], /) -> Task[P, R, Async[R], P]: ...
@overload
def task(function: Callable[P, R], /) -> Task[P, R, R, P]: ...
@overload
def task(*, name: str | None = None, **options: Unpack[ScheduledKeywords]) -> Declare: ...
def task(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    **options: Unpack[ScheduledKeywords],
) -> Any:
    """Make a task of a `def` or an `async def`.

    Usable bare (`@task`) and called (`@task(queue="high")`). The name is the function's unless
    given. With `cron="*/5 * * * *"` it runs on that schedule, once however many processes are up;
    with `catch_up=True` also for the times that were missed.

    Raises `TaskDeclarationError` for a name that is taken, and for a signature or an option that
    cannot work.
    """

    def declare(function: Callable[..., Any]) -> Task:
        return Task(registry.register(define(function, name=name, **options)))

    return declare if function is None else declare(function)
