"""What a GraphQL document asks for, read before it is executed."""

from __future__ import annotations

from graphql import GraphQLError, get_operation_ast, parse
from strawberry.types.graphql import OperationType


def operation_type(query: str | None, operation_name: str | None = None) -> OperationType | None:
    """Whether the operation is a query, a mutation or a subscription.

    None for a document that has no such operation or cannot be parsed; its execution says so.
    """
    try:
        operation = get_operation_ast(parse(query or "", no_location=True), operation_name)
    except (GraphQLError, RecursionError):
        return None
    return None if operation is None else OperationType(operation.operation.value)
