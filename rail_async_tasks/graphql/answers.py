"""The bytes of an answer: what its results will take is counted before they are read.

The fields of one operation share what `limits["answer_bytes"]` allows, however many lists it asks
for. They read one after another, so that a document of fifty lists holds no more than one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import Any

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
)

from rail_async_tasks.errors import TooLarge
from rail_async_tasks.graphql.documents import limits_in_force
from rail_async_tasks.service import answer_too_large, size_of
from rail_async_tasks.snapshot import TaskSnapshot


class Answer:
    """What the answer to one operation, or to one event of a subscription, may still take."""

    __slots__ = ("_limit", "left", "reading")

    def __init__(self, limit: int | None) -> None:
        self._limit = self.left = limit
        self.reading = asyncio.Lock()

    def begin_event(self) -> None:
        """Gives the next event of a subscription the whole limit."""
        self.left = self._limit

    def at_most(self, times: int) -> int | None:
        """Returns how many bytes results may have that the answer holds so many times."""
        return None if self.left is None else self.left // max(times, 1)

    def take(self, snapshots: Iterable[TaskSnapshot], times: int) -> None:
        """Counts tasks. Raises `TooLarge`."""
        if self._limit is None or self.left is None:
            return
        for snapshot in snapshots:
            self.left -= size_of(snapshot, results=times)
        if self.left < 0:
            raise answer_too_large(self._limit)


_answer: ContextVar[Answer | None] = ContextVar("graphql_answer", default=None)


def begin() -> None:
    """Begins the answer to an operation, in this context."""
    _answer.set(Answer(limits_in_force().answer_bytes))


def current() -> Answer:
    """Returns the answer that this operation adds to; under other views, one for each field."""
    return _answer.get() or Answer(limits_in_force().answer_bytes)


def too_large(size: int) -> TooLarge | None:
    """Returns the refusal of an encoded answer, whatever fields it is made of."""
    limit = limits_in_force().answer_bytes
    return None if limit is None or size <= limit else answer_too_large(limit)


def uses(info: Any, name: str) -> int:
    """Returns how often the selection of a field of ours asks for the field `name` of a task."""
    raw = info._raw_info  # noqa: SLF001 - Strawberry's own form costs far more
    return uses_in(raw.field_nodes, raw.fragments, name)


def uses_in(
    nodes: Iterable[FieldNode], fragments: Mapping[str, FragmentDefinitionNode], name: str
) -> int:
    """`uses` of a field in a document."""
    names: set[str] = set()
    spread: set[str] = set()
    waiting = [it.selection_set for it in nodes if it.selection_set is not None]
    while waiting:
        for node in waiting.pop().selections:
            if isinstance(node, FieldNode):
                if node.name.value == name:
                    names.add(name if node.alias is None else node.alias.value)
                elif node.selection_set is not None:  # a payload's task
                    waiting.append(node.selection_set)
            elif isinstance(node, InlineFragmentNode):
                waiting.append(node.selection_set)
            elif isinstance(node, FragmentSpreadNode) and node.name.value not in spread:
                spread.add(node.name.value)
                waiting.append(fragments[node.name.value].selection_set)
    return len(names)
