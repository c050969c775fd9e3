"""Finds schemas whose clients may start tasks and have no field to read them by (W017)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from django.core.checks import CheckMessage, Warning
from graphql import (
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLUnionType,
    get_named_type,
)
from strawberry.schema.base import BaseSchema

from rail_async_tasks.checks.settings import APP

# By root: what a client can't do without it, and our fields that make it possible.
_LACKS: Final = {
    "Query": ("ask for a task's status and result", ("task", "tasks")),
    "Subscription": (
        "follow a task's progress", ("taskProgress", "taskUpdated", "myTaskUpdates"),
    ),
}  # fmt: skip


def check_reading_back(schema: BaseSchema, view: str, *, streams: bool) -> Iterator[CheckMessage]:
    """Yields a warning for each root without a field of type `TaskExecution`, at any depth.

    Args:
        schema: has the mutation of a task.
        view: the names of the views that serve it, for the message.
        streams: a view is an asynchronous one, which subscriptions need.
    """
    from rail_async_tasks.graphql.names import new_names, type_name

    execution, names = type_name("TaskExecution"), new_names()
    core: GraphQLSchema = schema._schema  # type: ignore[attr-defined]  # noqa: SLF001
    roots = {"Query": core.query_type, "Subscription": core.subscription_type}
    for root, (purpose, fields) in _LACKS.items():
        if root == "Subscription" and not streams:
            continue
        if all(name in names and names[name] is None for name in fields):
            continue  # left out by the settings, on purpose
        if execution not in _reachable(core, roots[root]):
            shown = names.get(fields[0]) or fields[0]
            yield Warning(
                f"The schema of {view} starts tasks, and its {root} has no field to {purpose}.",
                hint=_hint(root, shown),
                id=f"{APP}.W017",
            )


def _hint(root: str, field: str) -> str:
    silenced = f'SILENCED_SYSTEM_CHECKS = ["{APP}.W017"]'
    return (
        f"Give the schema {root}, which has {field}: from rail_async_tasks.graphql import {root};"
        f" strawberry.Schema(..., {root.lower()}={root}), or beside a type of your own"
        f' {root.lower()}=merge_types("{root}", (Your{root}, {root})), as docs/own-schema.md shows.'
        f" If clients read tasks by REST alone: {silenced}."
    )


def _reachable(schema: GraphQLSchema, root: GraphQLNamedType | None) -> set[str]:
    """Returns the names of the types that a query from this root can reach."""
    found: set[str] = set()
    todo = [] if root is None else [root]
    while todo:
        type_ = todo.pop()
        if type_.name in found:
            continue
        found.add(type_.name)
        if isinstance(type_, GraphQLObjectType | GraphQLInterfaceType):
            todo += [get_named_type(field.type) for field in type_.fields.values()]
        if isinstance(type_, GraphQLUnionType | GraphQLInterfaceType):
            todo += schema.get_possible_types(type_)
    return found
