"""What a declaration asks of who starts its task, asked of a retry outside of GraphQL."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

from django.http import HttpRequest, HttpResponse
from strawberry.types.base import StrawberryOptional

from rail_async_tasks.auth.context import RequestContext
from rail_async_tasks.auth.permissions import acheck_start, check_start
from rail_async_tasks.declaration.definition import TaskDefinition

# As `service.retry` and `service.aretry` call them. They raise what the first refusal raises.
Permit: TypeAlias = Callable[[TaskDefinition, dict[str, Any]], None]
AsyncPermit: TypeAlias = Callable[[TaskDefinition, dict[str, Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class StartInfo:
    """The `info` of permission classes and field extensions outside of GraphQL operations.

    One that reads another attribute refuses the start by its AttributeError.
    """

    context: RequestContext
    field_name: str = "retryTask"
    python_name: str = "retry_task"
    # strawberry-django's extensions refuse a nullable field by null, in place of an error.
    return_type: Any = field(default_factory=lambda: StrawberryOptional(str))


def permit_of(request: HttpRequest, user: Any) -> Permit:
    """Returns the check of a retry that this user asks for."""
    return partial(check_start, _info(request, user))


def apermit_of(request: HttpRequest, user: Any) -> AsyncPermit:
    """`permit_of` for async code."""
    return partial(acheck_start, _info(request, user))


def _info(request: HttpRequest, user: Any) -> StartInfo:
    return StartInfo(RequestContext(request=request, response=HttpResponse(), user=user))
