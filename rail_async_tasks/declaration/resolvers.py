"""Refuses a task as the resolver of a Strawberry field, which would run its body in the request.

Strawberry accepts any callable as a resolver and has no hook to refuse one. So this module extends
the constructor of its resolvers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from strawberry.types.fields.resolver import StrawberryResolver

from rail_async_tasks.declaration.definition import TaskDefinition
from rail_async_tasks.errors import TaskDeclarationError


def _extended(init: Callable[..., None]) -> Callable[..., None]:
    @wraps(init)
    def extended(self: StrawberryResolver[Any], func: Any, **keywords: Any) -> None:
        definition = getattr(func, "definition", None)
        if isinstance(definition, TaskDefinition):
            raise TaskDeclarationError(
                f"Task {definition.name!r} is given to a decorator of Strawberry's as a resolver,"
                " which would run its body in the request. Leave @strawberry.mutation (or"
                " @strawberry.field) out: a task of @task_mutation is a mutation where it is an"
                " attribute of a Strawberry type."
            )
        init(self, func, **keywords)

    return extended


def refuse_tasks_as_resolvers() -> None:
    """Has Strawberry's resolvers raise `TaskDeclarationError` for a task."""
    StrawberryResolver.__init__ = _extended(StrawberryResolver.__init__)  # type: ignore[method-assign]
