"""Measures a GraphQL document before it is validated, and refuses one that is too complex. Pure.

Validation and execution follow each fragment wherever it is spread, and compare fields of one name
with each other. So the measure is of the document with its fragments spread out and its fields
merged, and the walk ends as soon as a limit is passed: a fragment bomb costs no more than an honest
document of the largest size.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
)

from rail_async_tasks.conf import LimitSettings
from rail_async_tasks.errors import TooComplex

# Where `tokens` is None: an end is needed all the same, as a bomb of a few lines has 2**30 fields.
MOST_FIELDS: Final = 100_000
# Comparisons of fields of one name, per field that is allowed: about a microsecond each.
COMPARISONS_PER_FIELD: Final = 2

Calls = Mapping[str, int]


def measure(document: DocumentNode, limits: LimitSettings) -> tuple[Calls, ...]:
    """Returns, for each mutation of the document, how often it has each field.

    Raises `TooComplex`, which names the limit.
    """
    walk = _Walk(document, limits)
    calls = []
    for definition in document.definitions:
        if isinstance(definition, OperationDefinitionNode):
            found = walk.operation(definition.selection_set)
            if definition.operation is OperationType.MUTATION:
                calls.append(found)
    walk.unused()
    return tuple(calls)


class _Walk:
    """One walk over the operations of a document."""

    def __init__(self, document: DocumentNode, limits: LimitSettings) -> None:
        self._limits = limits
        self._most = MOST_FIELDS if limits.tokens is None else limits.tokens
        self._left = self._most
        self._comparisons = self._most * COMPARISONS_PER_FIELD
        self._aliases = 0
        self._used: set[str] = set()
        self._fragments = {
            it.name.value: it
            for it in document.definitions
            if isinstance(it, FragmentDefinitionNode)
        }

    def operation(self, root: SelectionSetNode, depth: int = 1) -> Calls:
        """Walks one operation; returns how often it has each field, by the field's name."""
        calls: Counter[str] = Counter()
        self._aliases = 0
        waiting: list[tuple[list[SelectionSetNode], int]] = [([root], depth)]
        while waiting:
            sets, depth = waiting.pop()
            groups = self._merged(sets)
            if depth == 1:
                self._check("root_fields", len(groups), "root fields")
            if groups:
                self._check("depth", depth, "levels of fields")
            for nodes in groups.values():
                calls[nodes[0].name.value] += 1
                self._compare(len(nodes))
                below = [it.selection_set for it in nodes if it.selection_set is not None]
                if below:
                    waiting.append((below, depth + 1))
        return calls

    def unused(self) -> None:
        """Walks the fragments that no operation spreads: they are validated too."""
        for name, fragment in self._fragments.items():
            if name not in self._used:
                self._used.add(name)
                self.operation(fragment.selection_set, depth=2)

    def _merged(self, sets: list[SelectionSetNode]) -> dict[str, list[FieldNode]]:
        """Returns the fields of selection sets by the name that each has in the answer."""
        groups: dict[str, list[FieldNode]] = {}
        for node in self._fields(sets):
            if node.alias is not None:
                self._aliases += 1
                self._check("aliases", self._aliases, "aliases")
            key = node.name.value if node.alias is None else node.alias.value
            groups.setdefault(key, []).append(node)
        return groups

    def _fields(self, sets: list[SelectionSetNode]) -> Iterator[FieldNode]:
        """Yields the fields, those of fragments in place of their spreads."""
        spread: set[str] = set()
        waiting = list(sets)
        while waiting:
            for node in waiting.pop().selections:
                self._left -= 1
                if self._left < 0:
                    raise self._refused("tokens", "fields, with its fragments spread out,")
                if isinstance(node, FieldNode):
                    yield node
                elif isinstance(node, InlineFragmentNode):
                    waiting.append(node.selection_set)
                elif isinstance(node, FragmentSpreadNode):
                    name = node.name.value
                    fragment = self._fragments.get(name)
                    if fragment is not None and name not in spread:
                        spread.add(name)
                        self._used.add(name)
                        waiting.append(fragment.selection_set)
        self._compare(len(spread))

    def _compare(self, alike: int) -> None:
        """Counts the comparisons of so many fields of one name, or fragments of one place."""
        self._comparisons -= alike * (alike - 1) // 2
        if self._comparisons < 0:
            raise self._refused("tokens", "repetitions of fields and fragments in one place")

    def _check(self, key: str, number: int, what: str) -> None:
        limit = getattr(self._limits, key)
        if limit is not None and number > limit:
            raise self._refused(key, what)

    def _refused(self, key: str, what: str) -> TooComplex:
        limit = getattr(self._limits, key)
        most = f'limits["{key}"] allows: {limit}' if limit is not None else f"allowed: {self._most}"
        return TooComplex(f"The document has more {what} than {most}.")
