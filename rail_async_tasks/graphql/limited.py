"""Refuses operations that are over a limit, in our schema and in schemas of projects."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import lru_cache, partial
from typing import Any, Final

import strawberry
from graphql import GraphQLError, GraphQLObjectType
from strawberry.extensions import SchemaExtension

from rail_async_tasks.errors import TaskError, TooComplex
from rail_async_tasks.graphql import documents
from rail_async_tasks.graphql.decorator import MutationField
from rail_async_tasks.graphql.errors import bound
from rail_async_tasks.graphql.mutations import retry_task
from rail_async_tasks.graphql.schema import TaskSchema
from rail_async_tasks.graphql.turns import turn
from rail_async_tasks.graphql.validation import with_kept_document

# Schemas of one process, which live as long as it does; tests make more of them.
_SCHEMAS: Final = 16


class BoundedErrors(SchemaExtension):
    """Cuts the errors of an answer, as `TaskSchema` does by itself."""

    def on_execute(self) -> Iterator[None]:
        yield
        errors = getattr(self.execution_context.result, "errors", None)
        if errors:
            bound(errors)


@lru_cache(_SCHEMAS)
def served(schema: Any) -> Any:
    """Returns the schema as our view and consumer execute it.

    A schema of the project's own stays as it is; a shallow copy of it has two extensions more.
    """
    if isinstance(schema, TaskSchema) or not isinstance(schema, strawberry.Schema):
        return schema
    found = copy.copy(schema)
    found.extensions = (BoundedErrors, *schema.extensions)
    runner = partial(with_kept_document, found.create_extensions_runner)
    found.create_extensions_runner = runner  # type: ignore[method-assign]
    return found


async def refusal_in_turn(schema: Any, query: str | None) -> TaskError | None:
    """`refusal`, when it is the document's turn."""
    await turn(query)
    return refusal(schema, query)


def refusal(schema: Any, query: str | None) -> TaskError | None:
    """Returns why the operation is over a limit; None where it may be executed."""
    if not query:
        return None  # an extension finds the document, or the execution reports it
    try:
        document = documents.read(query)
    except TaskError as error:
        return error.with_traceback(None)  # whose frames would hold the text until a collection
    except GraphQLError:
        return None  # the execution reports it
    most = documents.limits_in_force().starts_per_request
    if most is None or not document.calls:
        return None
    names = starts_of(schema)
    if all(sum(calls.get(name, 0) for name in names) <= most for calls in document.calls):
        return None
    return TooComplex(
        f'The mutation starts more tasks than limits["starts_per_request"] allows: {most}. Send'
        " several requests."
    )


@lru_cache(_SCHEMAS)
def starts_of(schema: Any) -> frozenset[str]:
    """Returns the names of the fields that start a task, at whatever type they are."""
    return frozenset(_start_names(schema))


def _start_names(schema: Any) -> Iterator[str]:
    for kind in schema._schema.type_map.values():  # noqa: SLF001 - it has no public name
        if isinstance(kind, GraphQLObjectType):
            for name, field in kind.fields.items():
                ours = field.extensions.get("strawberry-definition")
                resolver = getattr(ours, "base_resolver", None)
                retries = getattr(resolver, "wrapped_func", None) is retry_task
                if isinstance(ours, MutationField) or retries:
                    yield name
