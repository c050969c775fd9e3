"""`@task_mutation`: a task that is also a GraphQL mutation field."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Concatenate, Final, Self, Unpack, overload

from strawberry.types.field import StrawberryField
from strawberry.types.fields.resolver import Parameter, Signature, StrawberryResolver

from rail_async_tasks.codec import MISSING
from rail_async_tasks.declaration.definition import TaskDefinition, define
from rail_async_tasks.declaration.keywords import TaskKeywords
from rail_async_tasks.declaration.signatures import (
    Async,
    InfoT,
    P,
    R,
    RootT,
    WithInfo,
    WithRootAndInfo,
)
from rail_async_tasks.declare import Declare, Task
from rail_async_tasks.graphql.starts import StartExtension, resolve_start
from rail_async_tasks.graphql.types import MAYBE_PAYLOAD
from rail_async_tasks.registry import registry

if TYPE_CHECKING:
    from strawberry.types import Info


_declared: Final[set[str]] = set()


def declared_mutations() -> frozenset[str]:
    """Returns the names of all tasks that `@task_mutation` has declared in this process."""
    return registry.names() & _declared


class MutationTask(Task):
    """A task that becomes a mutation where it is made an attribute of a class."""

    def __init__(self, definition: TaskDefinition) -> None:
        super().__init__(definition)
        _declared.add(definition.name)

    def __set_name__(self, owner: type, name: str) -> None:
        """Put a field in this task's place, before `@strawberry.type` looks at the class.

        A fresh one each time: dataclasses write a field's name into it, so that one field on two
        classes, or under two names, would lose one of them.
        """
        setattr(owner, name, MutationField(self.definition))


class ArgumentsResolver(StrawberryResolver[Any]):
    """Declares a task's arguments to Strawberry. Never called: the field has `get_result()`."""

    def __init__(self, definition: TaskDefinition) -> None:
        super().__init__(definition.function)
        self._definition = definition

    @cached_property
    def signature(self) -> inspect.Signature:
        """Returns the signature without the leading root and info, which need no types."""
        return Signature(
            [
                Parameter(
                    parameter.name,
                    inspect.Parameter.KEYWORD_ONLY,
                    annotation=parameter.annotation,
                    default=(
                        inspect.Parameter.empty
                        if parameter.default is MISSING
                        else parameter.default
                    ),
                )
                for parameter in self._definition.codec.parameters
            ]
        )


class MutationField(StrawberryField):
    """The mutation of one task: starts it and answers at once."""

    def __init__(self, definition: TaskDefinition | None = None, **keywords: Any) -> None:
        if definition is not None:
            keywords = {
                # Nullable, so that one refused mutation does not null its neighbours in a request.
                "type_annotation": MAYBE_PAYLOAD,
                "description": definition.options.description,
                "base_resolver": ArgumentsResolver(definition),
                "extensions": StartExtension.of(definition),
                **keywords,
            }
        super().__init__(**keywords)
        if definition is not None:  # shown to those who look; the extension asks them
            self.permission_classes = list(definition.options.permission_classes)
        self.definition = definition

    def __copy__(self) -> Self:
        # Strawberry copies the attributes that it knows, which were made from the definition.
        copied = super().__copy__()
        copied.definition = self.definition
        return copied

    @property
    def is_async(self) -> bool:
        """Returns False: Strawberry then leaves the form to `get_result()`, per execution."""
        return False

    def get_result(
        self, source: Any, info: Info[Any, Any] | None, args: list[Any], kwargs: dict[str, Any]
    ) -> Any:
        assert self.definition is not None
        return resolve_start(self.definition, info, kwargs)


@overload
def task_mutation(
    function: WithRootAndInfo[RootT, InfoT, P, Async[R]], /
) -> Task[P, R, Async[R], Concatenate[RootT, InfoT, P]]: ...
@overload
def task_mutation(
    function: WithRootAndInfo[RootT, InfoT, P, R], /
) -> Task[P, R, R, Concatenate[RootT, InfoT, P]]: ...
@overload
def task_mutation(
    function: WithInfo[InfoT, P, Async[R]], /
) -> Task[P, R, Async[R], Concatenate[InfoT, P]]: ...
@overload
def task_mutation(function: WithInfo[InfoT, P, R], /) -> Task[P, R, R, Concatenate[InfoT, P]]: ...
@overload
def task_mutation(function: Callable[P, Async[R]], /) -> Task[P, R, Async[R], P]: ...
@overload
def task_mutation(function: Callable[P, R], /) -> Task[P, R, R, P]: ...
@overload
def task_mutation(*, name: str | None = None, **options: Unpack[TaskKeywords]) -> Declare: ...
def task_mutation(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    **options: Unpack[TaskKeywords],
) -> Any:
    """Make a task and, where a class has it as an attribute, a mutation that starts it.

        @task_mutation
        async def generate_report(root, info, dataset_id: str): ...

        @strawberry.type
        class TaskMutations:
            generate_report = generate_report

    Usable bare and called, with the options of `@task`. The docstring is the field's description,
    the class attribute its name.

    Raises `TaskDeclarationError` as `@task` does.
    """

    def declare(function: Callable[..., Any]) -> Task:
        return MutationTask(registry.register(define(function, name=name, **options)))

    return declare if function is None else declare(function)
