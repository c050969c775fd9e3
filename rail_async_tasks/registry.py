"""All tasks that this process knows, by name."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

from django.utils.module_loading import autodiscover_modules

from rail_async_tasks.declaration.definition import TaskDefinition
from rail_async_tasks.errors import TaskDeclarationError

# Imports the module in which a name may be declared. Raises nothing.
Finder: TypeAlias = Callable[[str], None]

# Names that no finder has found; past so many all are asked for again.
_MAX_SOUGHT: Final = 10_000


class Registry:
    """Definitions by name. Writes are locked; reads need no lock.

    `coroutine_names` and `thread_names` are replaced, never changed, so that a claim can hand them
    to a query as they are.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._definitions: dict[str, TaskDefinition] = {}
        self.coroutine_names: frozenset[str] = frozenset()
        self.thread_names: frozenset[str] = frozenset()
        self._finders: tuple[Finder, ...] = ()
        self._sought: set[str] = set()
        self._queues: frozenset[str] = frozenset()

    def register(self, definition: TaskDefinition) -> TaskDefinition:
        """Add a definition, or replace the same one after a reload of its module.

        Returns it. Raises `TaskDeclarationError` if the name is taken: by another function, by one
        of the same name in the same module, or by an earlier call of a function that declares a
        task.
        """
        with self._lock:
            known = self._definitions.get(definition.name)
            if known is not None and not definition.origin.replaces(known.origin):
                remedy = "Give one of them another name=..."
                if definition.origin.is_copy_of(known.origin):
                    remedy = "It is one file, imported under two names: import it under one."
                raise TaskDeclarationError(
                    f"Two tasks are named {definition.name!r}: {known.origin} and "
                    f"{definition.origin}. {remedy}"
                )
            self._definitions = {**self._definitions, definition.name: definition}
            named = self._definitions.values()
            self.coroutine_names = frozenset(it.name for it in named if it.is_coroutine)
            self.thread_names = frozenset(it.name for it in named if not it.is_coroutine)
        return definition

    def get(self, name: str) -> TaskDefinition | None:
        return self._definitions.get(name)

    def add_finder(self, finder: Finder) -> None:
        """Has `find` ask for names that are not known here. Twice is once."""
        if finder not in self._finders:
            self._finders = (*self._finders, finder)

    @property
    def finds_names(self) -> bool:
        """Returns whether `find` can find more than `get`."""
        return bool(self._finders)

    def find(self, name: str) -> TaskDefinition | None:
        """Returns the definition; imports the module of one that is not known here, if it can.

        Blocks while it imports. A name that was not found is not sought again in this process.
        """
        known = self.get(name)
        if known is not None or name in self._sought:
            return known
        for finder in self._finders:
            finder(name)
        found = self.get(name)
        if found is None and self._finders:
            if len(self._sought) >= _MAX_SOUGHT:
                self._sought.clear()
            self._sought.add(name)
        return found

    def names(self) -> frozenset[str]:
        return self.coroutine_names | self.thread_names

    def definitions(self) -> tuple[TaskDefinition, ...]:
        """Returns all definitions, in the order of their declaration."""
        return tuple(self._definitions.values())

    def add_queues(self, queues: Iterable[str]) -> None:
        """Makes queues exist without a setting, as a declaration does that names one."""
        self._queues = self._queues.union(queues)

    def queues(self) -> frozenset[str]:
        """Returns the queues that declarations name; those exist without a setting."""
        named = (definition.options.queue for definition in self.definitions())
        return self._queues.union(queue for queue in named if queue is not None)

    def resolve(self) -> None:
        """Read the annotations whose types were not defined when their tasks were declared.

        Raises one `TaskDeclarationError` with every task's mistake.
        """
        mistakes = []
        for definition in self.definitions():
            try:
                definition.codec.resolve()
            except TaskDeclarationError as error:
                mistakes.append(str(error))
        if mistakes:
            raise TaskDeclarationError("\n".join(mistakes))


registry: Final = Registry()


def autodiscover() -> None:
    """Import the `tasks` module of every installed app, then resolve what they left open."""
    autodiscover_modules("tasks")
    registry.resolve()
