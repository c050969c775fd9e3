"""Reads the operation of a GraphQL document before it is executed."""

from __future__ import annotations

from graphql import DocumentNode, GraphQLError, OperationDefinitionNode, get_operation_ast, parse
from strawberry.types import ExecutionContext
from strawberry.types.graphql import OperationType


def operation_type(query: str | None, operation_name: str | None = None) -> OperationType | None:
    """Returns whether the operation is a query, a mutation or a subscription.

    None for a document that has no such operation, has several and no name that chooses one, or
    cannot be parsed; its execution reports that.
    """
    try:
        operation = get_operation_ast(parse(query or "", no_location=True), operation_name)
    except (GraphQLError, RecursionError):
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
