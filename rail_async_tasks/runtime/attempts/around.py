"""The project's `around_task`: makes a context manager that is entered around each body.

A plain manager may query and block, so it is entered in a thread: that of a `def` body, or the one
in which an `async def` body makes its ORM calls. An async one is entered in the attempt's task.
Either way the body, and what it calls in threads, sees the context variables that it sets. A
manager can't swallow what the body raises: a task that fails has failed.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

from asgiref.sync import iscoroutinefunction

from rail_async_tasks.conf import TaskSettings, import_from_setting
from rail_async_tasks.declaration.definition import TaskDefinition
from rail_async_tasks.runtime.attempts.managers import (
    AsyncBody,
    AsyncOnly,
    Body,
    Cancellable,
    InThread,
    OnLoop,
    Wary,
    at_home,
    awithin,
    is_async_manager,
    is_plain_manager,
    within,
)
from rail_async_tasks.runtime.attempts.orm_threads import Seat
from rail_async_tasks.snapshot import TaskSnapshot

SETTING: Final = 'task_settings["around_task"]'


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptInfo:
    """The attempt for which `around_task` makes a manager.

    `attempt` is 1 for the first. `arguments` are those that the task was started with, by name,
    without `sensitive` ones; the values are the objects that the body gets.
    """

    id: UUID
    name: str
    attempt: int
    queue: str
    owner_id: str | None
    tenant_id: str | None
    arguments: Mapping[str, Any]

    @classmethod
    def of(
        cls, snapshot: TaskSnapshot, definition: TaskDefinition, arguments: Mapping[str, Any]
    ) -> AttemptInfo:
        """Returns the attempt that begins with a claim's snapshot."""
        hidden = definition.options.sensitive
        shown = {name: value for name, value in arguments.items() if name not in hidden}
        return cls(
            id=snapshot.id, name=snapshot.name, attempt=snapshot.attempts, queue=snapshot.queue,
            owner_id=snapshot.owner_id, tenant_id=snapshot.tenant_id,
            arguments=MappingProxyType(shown),
        )  # fmt: skip

    def __str__(self) -> str:
        return f"Task {self.name} ({self.id})"


Factory = Callable[[AttemptInfo], Any]


def find_around(settings: TaskSettings) -> Factory | None:
    """Returns the project's factory of managers; None where there is none.

    Raises:
        ConfigurationError: it can't be imported. Without it no body may run: it may choose a
            tenant.
    """
    if settings.around_task is None:
        return None
    return import_from_setting(settings.around_task, SETTING)  # type: ignore[no-any-return]


async def around_coroutine(factory: Factory, info: AttemptInfo, body: AsyncBody, seat: Seat) -> Any:
    """Runs an `async def` body in the current task, which has the seat, within its manager."""
    if is_async_factory(factory):
        return await awithin(Wary(await _made(factory, info), seat), info, body)
    return await awithin(InThread(partial(_opened, factory, info), seat), info, body)


async def around_function(
    factory: Factory,
    info: AttemptInfo,
    body: Body,
    in_thread: Callable[[Body], Awaitable[Any]],
    cancellable: Callable[[], AbstractContextManager[None]],
) -> Any:
    """Runs a `def` body in a thread, within its manager.

    Args:
        in_thread: makes a call in a thread that the body has for itself, in the current context.
        cancellable: a context within which the attempt's task may be cancelled. The wait for a
            body may not: nothing ends its thread.
    """
    if is_async_factory(factory):
        with cancellable():
            manager = await _made(factory, info)
    else:
        outcome = await in_thread(partial(_called_within, factory, info, body))
        if not isinstance(outcome, AsyncOnly):
            return outcome
        manager = outcome.manager
    call = partial(in_thread, partial(at_home, body))
    return await awithin(Cancellable(manager, cancellable), info, call)


def around_here(
    factory: Factory, info: AttemptInfo, here: Body, there: AsyncBody,
    run: Callable[[AsyncBody], Any],
) -> Any:  # fmt: skip
    """Runs a body in this thread, which has no running loop, within its manager.

    Args:
        here: runs the body in this thread.
        there: runs the body on the loop of `run`; what is plain of it, in this thread.
        run: runs a coroutine on a loop of its own, and returns its result.
    """
    made: Any = None
    if not is_async_factory(factory):
        made = _called_within(factory, info, here)
        if not isinstance(made, AsyncOnly):
            return made

    async def on_loop() -> Any:
        manager = await _made(factory, info) if made is None else made.manager
        return await awithin(manager, info, there)

    return run(on_loop)


# --- the factory ---------------------------------------------------------------------------------


def is_async_factory(factory: Any) -> bool:
    """Returns whether a factory is called on the loop, as it can't block there. Others may."""
    if isinstance(factory, type):
        return is_async_manager(factory) and not is_plain_manager(factory)
    return inspect.isasyncgenfunction(inspect.unwrap(factory)) or iscoroutinefunction(factory)


async def _made(factory: Factory, info: AttemptInfo) -> Any:
    """Calls a factory on the loop."""
    manager = factory(info)
    if not is_async_manager(manager) and inspect.isawaitable(manager):
        manager = await manager
    if is_async_manager(manager):
        return manager
    if is_plain_manager(manager):
        return OnLoop(manager)
    raise _no_manager(factory, manager)


def _made_in_thread(factory: Factory, info: AttemptInfo) -> Any:
    """Calls a factory in a thread; returns a plain manager, or an `AsyncOnly`."""
    manager = factory(info)
    if is_plain_manager(manager):
        return manager
    if is_async_manager(manager):
        return AsyncOnly(manager)
    raise _no_manager(factory, manager)


def _opened(factory: Factory, info: AttemptInfo) -> Any:
    manager = _made_in_thread(factory, info)
    if not isinstance(manager, AsyncOnly):
        manager.__enter__()
    return manager


def _called_within(factory: Factory, info: AttemptInfo, body: Body) -> Any:
    manager = _made_in_thread(factory, info)
    return manager if isinstance(manager, AsyncOnly) else within(manager, info, body)


def _no_manager(factory: Any, returned: Any) -> TypeError:
    name = getattr(factory, "__qualname__", type(factory).__qualname__)
    return TypeError(
        f"{SETTING}: {name} returned {type(returned).__name__}, which is no context manager. Write"
        " a function that yields once, under @contextlib.contextmanager, or an async def under"
        " @contextlib.asynccontextmanager."
    )
