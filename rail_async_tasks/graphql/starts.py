"""What the mutation of a task does: starts it and answers at once, in async and sync executions."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from strawberry.extensions.field_extension import FieldExtension
from strawberry.types.unset import UNSET

from rail_async_tasks.auth.caller import Caller
from rail_async_tasks.auth.field_extensions import arun, run
from rail_async_tasks.auth.permissions import start_extensions
from rail_async_tasks.declaration.definition import TaskDefinition
from rail_async_tasks.graphql.context import acaller_of, caller_of
from rail_async_tasks.graphql.errors import denials_with_codes, errors_for_clients
from rail_async_tasks.graphql.types import TaskMutationPayload
from rail_async_tasks.hooks import contained, on_event_loop

if TYPE_CHECKING:
    from strawberry.types import Info
    from strawberry.types.field import StrawberryField

    from rail_async_tasks.service import EnqueueOptions


def resolve_start(definition: TaskDefinition, info: Any, kwargs: dict[str, Any]) -> Any:
    """Starts the task. Returns the payload; on an event loop, an awaitable of it."""
    start = astart if on_event_loop() else start_here
    return start(definition, None, info, **kwargs)


async def astart(
    definition: TaskDefinition, source: Any, info: Info[Any, Any], /, **kwargs: Any
) -> TaskMutationPayload:
    """Starts the task for the caller of the operation."""
    from rail_async_tasks import service

    with errors_for_clients():
        caller = await acaller_of(info)
        snapshot = await service.aenqueue(definition, _given(kwargs), _options(caller))
        return TaskMutationPayload.of(snapshot, caller.viewer)


def start_here(
    definition: TaskDefinition, source: Any, info: Info[Any, Any], /, **kwargs: Any
) -> TaskMutationPayload:
    """`astart()` for a synchronous execution; within a transaction, the task is part of it."""
    from rail_async_tasks import service

    with errors_for_clients():
        caller = caller_of(info)
        snapshot = service.enqueue(definition, _given(kwargs), _options(caller))
        return TaskMutationPayload.of(snapshot, caller.viewer)


def _given(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in kwargs.items() if value is not UNSET}


def _options(caller: Caller) -> EnqueueOptions:
    from rail_async_tasks import service

    return service.EnqueueOptions(
        owner_id=caller.viewer.user_id,
        tenant_id=caller.tenant_id,
        actor=caller.viewer.user_id,
        anonymous=caller.viewer.is_anonymous,
        address=caller.address,
    )


class StartExtension(FieldExtension):
    """Runs the extensions and permission classes of a declaration around the start of its task.

    One extension in their place, as Strawberry takes either the async or the synchronous form of
    all extensions of a field, once and for all.
    """

    def __init__(self, definition: TaskDefinition, extensions: tuple[FieldExtension, ...]) -> None:
        self._definition = definition
        self._extensions = extensions

    @classmethod
    def of(cls, definition: TaskDefinition) -> list[FieldExtension]:
        """Returns the extension of a task's field; none where the declaration asks for nothing."""
        extensions = start_extensions(definition)
        return [cls(definition, extensions)] if extensions else []

    def apply(self, field: StrawberryField) -> None:
        """Lets each extension change the field, its schema directives say."""
        for extension in self._extensions:
            extension.apply(field)

    def map_arguments(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Lets each extension reshape the arguments."""
        for extension in self._extensions:
            kwargs = contained(extension.map_arguments)(kwargs)
        return kwargs

    def resolve(self, next_: Any, source: Any, info: Any, **kwargs: Any) -> Any:
        """Starts the task through the extensions, in the form that the execution has.

        Not by `next_`, which would choose the form anew: strawberry-django's extensions call it
        from a thread.
        """
        if on_event_loop():
            return self._aresolve(source, info, kwargs)
        with denials_with_codes():
            start = partial(start_here, self._definition)
            return run(self._extensions, start, source, info, kwargs)

    async def _aresolve(self, source: Any, info: Any, kwargs: dict[str, Any]) -> Any:
        with denials_with_codes():
            start = partial(astart, self._definition)
            return await arun(self._extensions, start, source, info, kwargs)
