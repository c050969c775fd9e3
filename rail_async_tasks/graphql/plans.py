"""Decides which subscriptions look the same to all callers who have the same rights.

Such a subscription has one field, of this package, and nothing of the project's sees its events: no
schema extension, directive or scalar. Any other one is executed for each of its subscribers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, cast

import strawberry
from graphql import (
    ArgumentNode,
    DirectiveNode,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    GraphQLError,
    GraphQLNamedType,
    GraphQLObjectType,
    OperationDefinitionNode,
    OperationType,
    StringValueNode,
    VariableNode,
    Visitor,
    get_named_type,
    specified_scalar_types,
    validate,
    visit,
)
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext
from strawberry.schema.types.scalar import DEFAULT_SCALAR_REGISTRY

from rail_async_tasks.errors import TaskError
from rail_async_tasks.graphql import answers, documents
from rail_async_tasks.graphql.limited import BoundedErrors
from rail_async_tasks.graphql.schema import TaskSchema
from rail_async_tasks.graphql.streamed_fields import StreamedField
from rail_async_tasks.graphql.types import TaskExecution

# Longer documents are executed for each subscriber.
_LONGEST: Final = 4 * 1024
_KEPT: Final = 128

_DEFINITION: Final = "strawberry-definition"


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A subscription whose events may be shared. `follows` is the function of its field.

    `times` is how often the answer has the task's result.
    """

    schema: strawberry.Schema
    document: DocumentNode
    operation_name: str | None
    follows: Callable[..., Any]
    argument: ArgumentNode | None
    times: int

    def task_id(self, variables: Mapping[str, Any] | None) -> str | None:
        """Returns the value of the field's argument if it is a string."""
        value = None if self.argument is None else self.argument.value
        if isinstance(value, VariableNode):
            found = (variables or {}).get(value.name.value)
            return found if isinstance(found, str) else None
        return value.value if isinstance(value, StringValueNode) else None


def plan_of(schema: Any, query: str, operation_name: str | None) -> Plan | None:
    """Returns the plan of a document within the limits; None where it can't be shared."""
    if len(query) > _LONGEST or not _is_plain(schema):
        return None
    return _plan(schema, query, operation_name)


@lru_cache(_KEPT)
def _plan(schema: strawberry.Schema, query: str, operation_name: str | None) -> Plan | None:
    try:
        document = documents.read(query).node
    except (GraphQLError, TaskError):
        return None  # the execution reports it
    field, fragments = _only_field(document, operation_name)
    root = schema._schema.subscription_type  # noqa: SLF001 - it has no public name
    if field is None or root is None or field.name.value not in root.fields:
        return None
    definition = root.fields[field.name.value]
    ours = definition.extensions.get(_DEFINITION)
    if not isinstance(ours, StreamedField) or ours.base_resolver is None:
        return None
    if ours.extensions:  # the project's, its permission classes among them
        return None
    if not _is_ours(get_named_type(definition.type)) or _has_directives(document):
        return None
    if validate(schema._schema, document):  # noqa: SLF001
        return None  # the execution reports it
    return Plan(
        schema,
        document,
        operation_name,
        cast("Callable[..., Any]", ours.base_resolver.wrapped_func),
        next(iter(field.arguments or ()), None),
        answers.uses_in([field], fragments, "result"),
    )


def _is_plain(schema: Any) -> bool:
    """Returns whether nothing of the project's takes part in executions of the schema."""
    return (
        type(schema) in (strawberry.Schema, TaskSchema)
        and all(extension is BoundedErrors for extension in schema.extensions)
        and schema.execution_context_class is StrawberryGraphQLCoreExecutionContext
        and not schema.exception_handlers
    )


def _only_field(
    document: DocumentNode, operation_name: str | None
) -> tuple[FieldNode | None, dict[str, FragmentDefinitionNode]]:
    """Returns the field of a document's only operation, a subscription, and its fragments."""
    fragments, found = {}, None
    for node in document.definitions:
        if isinstance(node, FragmentDefinitionNode):
            fragments[node.name.value] = node
        elif found is not None or not isinstance(node, OperationDefinitionNode):
            return None, fragments
        else:
            found = node
    if found is None or found.operation is not OperationType.SUBSCRIPTION:
        return None, fragments
    if operation_name is not None and (found.name is None or found.name.value != operation_name):
        return None, fragments
    selections = found.selection_set.selections
    only = selections[0] if len(selections) == 1 else None
    return (only if isinstance(only, FieldNode) else None), fragments


def _is_ours(kind: GraphQLNamedType) -> bool:
    """Returns whether it is a task's type, and the scalars of its fields are Strawberry's."""
    if not isinstance(kind, GraphQLObjectType):
        return False
    origin = getattr(kind.extensions.get(_DEFINITION), "origin", None)
    return (
        isinstance(origin, type)
        and issubclass(origin, TaskExecution)
        and all(_is_strawberry_s(get_named_type(field.type)) for field in kind.fields.values())
    )


def _is_strawberry_s(scalar: GraphQLNamedType) -> bool:
    if specified_scalar_types.get(scalar.name) is scalar:
        return True
    definition = scalar.extensions.get(_DEFINITION)
    return any(definition is known for known in DEFAULT_SCALAR_REGISTRY.values())


def _has_directives(document: DocumentNode) -> bool:
    """Returns whether the document has a directive other than GraphQL's own."""
    visitor = _Directives()
    visit(document, visitor)
    return not visitor.names <= {"skip", "include"}


class _Directives(Visitor):
    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def enter_directive(self, node: DirectiveNode, *_: Any) -> None:
        self.names.add(node.name.value)
