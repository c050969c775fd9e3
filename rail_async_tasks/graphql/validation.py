"""Executes the document that was measured, and validates it once for a schema and its rules.

Validation takes more than half of the time of a small operation. Its outcome depends on the
document, the schema and the rules; the rules of GraphQL and of Strawberry look at nothing else. A
rule of the project's may: it runs at every request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from graphql import NoSchemaIntrospectionCustomRule, specified_rules, validate
from strawberry.extensions import SchemaExtension
from strawberry.extensions.runner import SchemaExtensionsRunner
from strawberry.types import ExecutionContext

from rail_async_tasks.graphql import documents

# Rules that give the same answer for the same schema and document, always.
_CONSTANT: Final = frozenset((*specified_rules, NoSchemaIntrospectionCustomRule))


class KeptDocument(SchemaExtension):
    """Has an operation use the kept document, and what is known of its validity.

    It must be the last extension: the others may have put another document in place, or have added
    rules, and this one sees what they have left.
    """

    def on_parse(self) -> Iterator[None]:
        context = self.execution_context
        document = documents.current(context.query)
        if document is not None:
            if context.parse_options:
                # An extension's options, a number of tokens say, are for a parser that heeds them.
                if context.graphql_document is document.node:
                    context.graphql_document = None
            elif context.graphql_document is None:
                context.graphql_document = document.node
        yield

    def on_validate(self) -> Iterator[None]:
        context = self.execution_context
        document = _to_be_validated(context)
        if document is None:
            yield
            return
        schema = context.schema._schema  # noqa: SLF001 - it has no public name
        constant = tuple(rule for rule in context.validation_rules if rule in _CONSTANT)
        known = document.valid.setdefault(schema, set())
        if constant in known:
            others = tuple(rule for rule in context.validation_rules if rule not in _CONSTANT)
            context.pre_execution_errors = validate(schema, document.node, others) if others else []
            yield
            return
        yield
        if context.pre_execution_errors == []:
            known.add(constant)


def _to_be_validated(context: ExecutionContext) -> documents.Document | None:
    """Returns the kept document, if that is what the operation is about to validate."""
    document = documents.current(context.query)
    if document is None or document.node is not context.graphql_document:
        return None
    # An extension may have validated it, or have switched validation off.
    if context.pre_execution_errors is not None or not context.validation_rules:
        return None
    return document


def with_kept_document(
    make: Callable[[ExecutionContext, list[SchemaExtension]], SchemaExtensionsRunner],
    execution_context: ExecutionContext,
    extensions: list[SchemaExtension],
) -> SchemaExtensionsRunner:
    """Returns the runner that `make` makes of these extensions, `KeptDocument` after them."""
    last = KeptDocument()
    last.execution_context = execution_context
    return make(execution_context, [*extensions, last])
