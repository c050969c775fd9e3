"""Declaring tasks and starting them from Python: `@task`, and the `Task` that it makes.

The service, and with it the database, is imported when a task is started, not when it is declared:
a declaration may stand in any module, a `models.py` included.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, overload
from uuid import UUID

import msgspec

from rail_async_tasks import resolvers as resolvers  # which refuse tasks
from rail_async_tasks.access import as_id, user_id_of
from rail_async_tasks.definition import TaskDefinition, define
from rail_async_tasks.errors import InvalidArguments
from rail_async_tasks.foreign_names import OF_TASKS, missing
from rail_async_tasks.handle import TaskHandle
from rail_async_tasks.registry import registry

if TYPE_CHECKING:
    from strawberry.permission import BasePermission

    from rail_async_tasks.service import EnqueueOptions

Function = Callable[..., Any]


class TaskKeywords(TypedDict, total=False):
    """The options of a declaration beside its name. The settings hold for those left out."""

    queue: str
    priority: int
    max_retries: int
    retry_delay: float
    retry_backoff: bool
    retry_on: type[Exception] | Iterable[type[Exception]]
    timeout: float
    track_progress: bool
    rerun_on_crash: bool
    unique: bool
    sensitive: Iterable[str]
    description: str
    permission_classes: Iterable[type[BasePermission]]


class ScheduledKeywords(TaskKeywords, total=False):
    """The options of a task that may run on a schedule."""

    cron: str
    catch_up: bool


class UsingKeywords(TypedDict, total=False):
    """The options of one start."""

    queue: str | None
    priority: int | None
    run_after: datetime | None
    delay: float | timedelta | None
    unique_key: str | None
    owner: Any
    tenant_id: str | None


class Task:
    """A declared task. The decorator puts it in the function's place."""

    def __init__(self, definition: TaskDefinition) -> None:
        self.definition = definition
        self.__doc__ = definition.function.__doc__
        self.__name__ = definition.function.__name__
        self.__qualname__ = definition.qualname
        self.__module__ = definition.module
        self.__wrapped__ = definition.function

    @property
    def name(self) -> str:
        return self.definition.name

    if not TYPE_CHECKING:  # type checkers know the attributes

        def __getattr__(self, name: str) -> Any:
            raise missing(self, name, OF_TASKS, vars(self).get("__name__", "task"))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def enqueue(self, **arguments: Any) -> TaskHandle:
        """Start the task. In a transaction it starts when that commits.

        Raises `TaskError`: `InvalidArguments`, `QueueFull`, `TasksDisabled` and others.
        """
        return self.using().enqueue(**arguments)

    async def aenqueue(self, **arguments: Any) -> TaskHandle:
        """`enqueue()` from async code."""
        return await self.using().aenqueue(**arguments)

    def using(self, **keywords: Unpack[UsingKeywords]) -> BoundTask:
        """Returns a copy of the task with options for its next start.

        `queue` and `priority` in place of the declared ones; `run_after` (an aware datetime) or
        `delay` (seconds or a timedelta): not before then; `unique_key`: one unfinished task per
        key; `owner`: the user (or their primary key) whose task it is; `tenant_id`.
        """
        return BoundTask(self.definition, _known(keywords))


class BoundTask(msgspec.Struct, frozen=True):
    """A task with options for its next start."""

    definition: TaskDefinition
    keywords: UsingKeywords

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            raise missing(self, name, OF_TASKS, "task.using(...)")

    def using(self, **keywords: Unpack[UsingKeywords]) -> BoundTask:
        """Returns a copy with these options too; earlier ones stay unless they are given again."""
        return BoundTask(self.definition, {**self.keywords, **_known(keywords)})

    def enqueue(self, **arguments: Any) -> TaskHandle:
        """As `Task.enqueue()`."""
        from rail_async_tasks import service

        return TaskHandle(service.enqueue(self.definition, arguments, _options(self.keywords)))

    async def aenqueue(self, **arguments: Any) -> TaskHandle:
        """As `Task.aenqueue()`."""
        from rail_async_tasks import service

        options = _options(self.keywords)
        return TaskHandle(await service.aenqueue(self.definition, arguments, options))


def _options(keywords: UsingKeywords) -> EnqueueOptions:
    from rail_async_tasks.service import AS_DECLARED, EnqueueOptions

    if not keywords:
        return AS_DECLARED
    delay = keywords.get("delay")
    return EnqueueOptions(
        queue=keywords.get("queue"),
        priority=keywords.get("priority"),
        run_after=keywords.get("run_after"),
        delay=delay.total_seconds() if isinstance(delay, timedelta) else delay,
        unique_key=keywords.get("unique_key"),
        owner_id=_owner_id(keywords.get("owner")),
        tenant_id=as_id(keywords.get("tenant_id")),
    )


def _known(keywords: UsingKeywords) -> UsingKeywords:
    """Returns the keywords. Raises for a misspelt one: a lost `owner` would make a task public."""
    for name in keywords:
        if name not in UsingKeywords.__annotations__:
            close = difflib.get_close_matches(name, UsingKeywords.__annotations__, n=1)
            hint = f"did you mean {close[0]!r}?" if close else ""
            known = ", ".join(UsingKeywords.__annotations__)
            raise TypeError(f"using() takes no {name!r}; {hint or f'it takes {known}.'}")
    return keywords


def _owner_id(owner: Any) -> str | None:
    """Returns the id of a user or of a primary key; None for None and `AnonymousUser`."""
    if isinstance(owner, (str, int, UUID)) and not isinstance(owner, bool) and owner != "":
        return str(owner)
    if owner is None or getattr(owner, "is_anonymous", False) is True:
        return None
    found = user_id_of(owner)
    if found is None:
        raise InvalidArguments(
            f"owner must be a saved user or their primary key, not {type(owner).__name__}."
        )
    return found


@overload
def task(function: Function, /) -> Task: ...
@overload
def task(
    *, name: str | None = None, **options: Unpack[ScheduledKeywords]
) -> Callable[[Function], Task]: ...
def task(
    function: Function | None = None,
    /,
    *,
    name: str | None = None,
    **options: Unpack[ScheduledKeywords],
) -> Task | Callable[[Function], Task]:
    """Make a task of a `def` or an `async def`.

    Usable bare (`@task`) and called (`@task(queue="high")`). The name is the function's unless
    given. With `cron="*/5 * * * *"` it runs on that schedule, once however many processes are up;
    with `catch_up=True` also for the times that were missed.

    Raises `TaskDeclarationError` for a name that is taken, and for a signature or an option that
    cannot work.
    """

    def declare(function: Function) -> Task:
        return Task(registry.register(define(function, name=name, **options)))

    return declare if function is None else declare(function)
