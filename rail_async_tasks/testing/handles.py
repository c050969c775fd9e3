"""What the tools return: tasks as handles with their arguments, and lists that may be awaited."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any, Self, TypeVar

import msgspec

from rail_async_tasks.codec.arguments import MISSING
from rail_async_tasks.declaration.definition import TaskDefinition
from rail_async_tasks.errors import InvalidArguments
from rail_async_tasks.handle import TaskHandle
from rail_async_tasks.registry import registry
from rail_async_tasks.snapshot import TaskSnapshot

T = TypeVar("T")


class Done(list[T]):
    """A list that `await` returns as it is, so that a call reads the same in every kind of test."""

    def __await__(self) -> Generator[Any, None, Self]:
        yield from ()
        return self


class EnqueuedTask(TaskHandle):
    """A `TaskHandle` with the arguments of the start.

    Attributes:
        arguments: the arguments that were given, by name, as the values that the body gets.
    """

    __slots__ = ("arguments",)

    def __init__(self, snapshot: TaskSnapshot, arguments: dict[str, Any]) -> None:
        super().__init__(snapshot)
        self.arguments = arguments

    @property
    def name(self) -> str:
        return self.snapshot.name

    def __repr__(self) -> str:
        definition = registry.get(self.name)
        hidden = frozenset() if definition is None else definition.options.sensitive
        given = ", ".join(
            f"{name}={'<sensitive>' if name in hidden else repr(value)}"
            for name, value in self.arguments.items()
        )
        return f"{self.name}({given}) {self.status}"


def as_enqueued(snapshot: TaskSnapshot, stored: str | None) -> EnqueuedTask:
    """Returns the handle of a row; `stored` is its arguments as JSON."""
    definition = registry.get(snapshot.name)
    text = stored or "{}"
    if definition is None:
        return EnqueuedTask(snapshot, msgspec.json.decode(text))
    try:
        return EnqueuedTask(snapshot, definition.decode(text))
    except InvalidArguments:  # the body would fail by them, too
        return EnqueuedTask(snapshot, msgspec.json.decode(text))


def definition_of(task: Any) -> TaskDefinition:
    """Returns the definition of a task, or of its name. Raises `TypeError` for anything else."""
    if isinstance(task, str):
        found = registry.get(task)
        if found is None:
            known = ", ".join(sorted(registry.names()))
            raise TypeError(f"There is no task named {task!r}. Known are {known}.")
        return found
    definition = getattr(task, "definition", None)
    if isinstance(definition, TaskDefinition):
        return definition
    raise TypeError(f"Give a task (made by @task or @task_mutation) or its name, not {task!r}.")


def has_arguments(
    handle: EnqueuedTask, definition: TaskDefinition, expected: Mapping[str, Any]
) -> bool:
    """Returns whether these are among its arguments; one left out has the function's default.

    Raises:
        TypeError: the task takes no argument of one of the names.
    """
    defaults = {it.name: it.default for it in definition.codec.parameters}
    for name, value in expected.items():
        if name not in defaults:
            raise TypeError(
                f"{definition.name} takes no argument {name!r}; it takes"
                f" {', '.join(defaults) or 'none'}."
            )
        actual = handle.arguments.get(name, defaults[name])
        if actual is MISSING or not _equal(definition, handle.arguments, name, actual, value):
            return False
    return True


def _equal(
    definition: TaskDefinition, arguments: Mapping[str, Any], name: str, actual: Any, expected: Any
) -> bool:
    """Returns whether two values of one argument are equal, or have the same JSON form."""
    if actual == expected:
        return True
    try:
        return definition.encode({**arguments, name: expected}) == definition.encode(
            {**arguments, name: actual}
        )
    except InvalidArguments:
        return False
