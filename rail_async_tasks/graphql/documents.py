"""Reads GraphQL documents before they are executed: parsed once, measured, kept.

What is kept of a document includes which schemas and rules have found it valid, see `validation`.

The view and the consumer read a document here, and refuse it or execute it; the schema that
executes it takes the parsed one by `current()`. An error scans its document for the line that it
names. So a long document is parsed without locations: its errors have a message and a path.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from contextvars import ContextVar
from dataclasses import dataclass, field
from threading import Lock
from typing import Final
from weakref import WeakKeyDictionary

from graphql import (
    ASTValidationRule,
    DocumentNode,
    GraphQLError,
    GraphQLSchema,
    OperationDefinitionNode,
    get_operation_ast,
    parse,
)
from strawberry.types import ExecutionContext
from strawberry.types.graphql import OperationType

from rail_async_tasks.conf import LimitSettings, get_settings
from rail_async_tasks.errors import ConfigurationError, TooComplex
from rail_async_tasks.graphql.complexity import Calls, measure

# The lexer takes about a microsecond for each character of a long text or comment.
CHARACTERS_PER_TOKEN: Final = 32
# A shorter document costs no more than an operation does besides.
SHORT: Final = 1024
# Longer documents are parsed without locations.
MOST_LOCATED: Final = 16 * 1024
MOST_LINES: Final = 1_000
# What is kept, in characters: a parsed document takes a few hundred times the memory of its text.
KEPT_EACH: Final = 4 * 1024
KEPT_IN_ALL: Final = 64 * 1024
MOST_KEPT: Final = 512

Rules = tuple[type[ASTValidationRule], ...]

# graphql-core has no class for these two.
_TOO_MANY_TOKENS: Final = re.compile(r"Syntax Error: Document contains more tha[nt] \d+ tokens")
_TOO_DEEP: Final = re.compile(r"Syntax Error: Document is nested too deeply")


@dataclass(frozen=True, slots=True)
class Document:
    """A document within the limits.

    Attributes:
        calls: of each mutation, how often it has each field.
        valid: the rules by which each schema has found it valid. It dies with the document, so
            that one that is read under other limits is validated anew.
    """

    text: str
    node: DocumentNode
    calls: tuple[Calls, ...]
    valid: WeakKeyDictionary[GraphQLSchema, set[Rules]] = field(
        default_factory=WeakKeyDictionary, compare=False, repr=False
    )


class _Kept:
    """The documents that were read last, bounded by their number and the length of their texts."""

    def __init__(self) -> None:
        self._documents: OrderedDict[tuple[str, LimitSettings], Document] = OrderedDict()
        self._size = 0
        self._lock = Lock()

    def get(self, key: tuple[str, LimitSettings]) -> Document | None:
        with self._lock:
            found = self._documents.get(key)
            if found is not None:
                self._documents.move_to_end(key)
            return found

    def add(self, key: tuple[str, LimitSettings], document: Document) -> None:
        size = len(document.text)
        if size > KEPT_EACH:
            return
        with self._lock:
            if key not in self._documents:
                self._documents[key] = document
                self._size += size
            while self._size > KEPT_IN_ALL or len(self._documents) > MOST_KEPT:
                (text, _), _ = self._documents.popitem(last=False)
                self._size -= len(text)


_kept: Final = _Kept()
_current: ContextVar[Document | None] = ContextVar("graphql_document", default=None)


def limits_in_force() -> LimitSettings:
    """Returns the limits; the defaults where a setting is wrong, which resolvers report."""
    try:
        return get_settings().limits
    except ConfigurationError:
        return LimitSettings()


def read(text: str) -> Document:
    """Returns the document, and makes it the one that `current()` has.

    Raises:
        TooComplex: it is over one of the limits.
        GraphQLError: it is no document.
    """
    limits = limits_in_force()
    key = (text, limits)
    document = _kept.get(key)
    if document is None:
        node = _parsed(text, limits)
        document = Document(text, node, measure(node, limits))
        _kept.add(key, document)
    _current.set(document)
    return document


def takes_long(text: str) -> bool:
    """Returns whether parsing and validating would take the loop milliseconds.

    Not where the document is known to be valid, or is refused for its length.
    """
    limits = limits_in_force()
    if len(text) <= SHORT or _has_too_many_characters(text, limits):
        return False
    document = _kept.get((text, limits))
    return document is None or not any(document.valid.values())


def current(text: str | None) -> Document | None:
    """Returns the document if the text was the last that was read in this context."""
    document = _current.get()
    return document if document is not None and document.text == text else None


def _has_too_many_characters(text: str, limits: LimitSettings) -> bool:
    return limits.tokens is not None and len(text) > limits.tokens * CHARACTERS_PER_TOKEN


def _parsed(text: str, limits: LimitSettings) -> DocumentNode:
    most = limits.tokens
    if most is not None and _has_too_many_characters(text, limits):
        raise TooComplex(
            f'The document has more characters than limits["tokens"] allows:'
            f" {most * CHARACTERS_PER_TOKEN}. Pass long values as variables."
        )
    short = len(text) <= MOST_LOCATED and text.count("\n") + text.count("\r") <= MOST_LINES
    try:
        return parse(text, no_location=not short, max_tokens=most)
    except RecursionError:
        raise TooComplex("The document is nested too deeply.") from None
    except GraphQLError as error:
        if _TOO_MANY_TOKENS.match(error.message):
            raise TooComplex(
                f'The document has more tokens than limits["tokens"] allows: {most}.'
            ) from None
        if _TOO_DEEP.match(error.message):
            raise TooComplex("The document is nested too deeply.") from None
        raise


def operation_type(query: str | None, operation_name: str | None = None) -> OperationType | None:
    """Returns whether the operation is a query, a mutation or a subscription.

    None for a document that has no such operation, has several and no name that chooses one, is
    too complex, or cannot be parsed; its execution reports that.
    """
    try:
        operation = get_operation_ast(read(query or "").node, operation_name)
    except (GraphQLError, TooComplex):
        return None
    return None if operation is None else OperationType(operation.operation.value)


def _operations(document: DocumentNode) -> int:
    return sum(isinstance(it, OperationDefinitionNode) for it in document.definitions)


class OneOperation(ExecutionContext):
    """An execution context that never chooses among several operations.

    Strawberry executes the first where the request names none. The specification has it refused,
    and `operation_type`, which decides on limits and the end of streams, would not know of it.
    """

    @property
    def operation_name(self) -> str | None:
        document, name = self.graphql_document, super().operation_name
        if self._provided_operation_name is None and document and _operations(document) > 1:
            return None
        return name

    @property
    def operation_type(self) -> OperationType:
        document = self.graphql_document
        if document and self.operation_name is None and _operations(document) > 1:
            raise RuntimeError("The request names none of several operations")
        return super().operation_type
