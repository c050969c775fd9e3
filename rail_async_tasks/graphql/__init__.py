"""The GraphQL edge: mutations of tasks, queries, subscriptions, and their views.

The public names are imported when they are first asked for: Django imports this package before any
model can exist. Types have the names that `schema_settings["rename"]` gives them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rail_async_tasks.graphql.consumers import TaskGraphQLConsumer
    from rail_async_tasks.graphql.mutations import Mutation
    from rail_async_tasks.graphql.queries import Query
    from rail_async_tasks.graphql.schema import TaskSchema
    from rail_async_tasks.graphql.subscriptions import Subscription
    from rail_async_tasks.graphql.types import TaskExecution, TaskMutationPayload
    from rail_async_tasks.graphql.views import TaskGraphQLView

__all__ = [
    "Mutation",
    "Query",
    "Subscription",
    "TaskExecution",
    "TaskGraphQLConsumer",
    "TaskGraphQLView",
    "TaskMutationPayload",
    "TaskSchema",
]

_HOMES = {
    "TaskGraphQLConsumer": "consumers",
    "TaskGraphQLView": "views",
    "TaskSchema": "schema",
}
# By the settings, which may change: not kept here.
_ROOTS = ("Mutation", "Query", "Subscription")
_TYPES = {"TaskExecution": "execution_type", "TaskMutationPayload": "payload_type"}


def __getattr__(name: str) -> Any:
    if name in _ROOTS:
        return _module("roots").root_type(name)
    if name in _TYPES:
        return getattr(_module("types"), _TYPES[name])()
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


def _module(name: str) -> Any:
    return import_module(f"{__name__}.{name}")
