"""What a declaration asks of who starts its task, asked of a visitor, as by a mutation and REST."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse

from rail_async_tasks.auth.context import RequestContext
from rail_async_tasks.auth.permissions import check_start
from rail_async_tasks.dashboard.gate import Visitor
from rail_async_tasks.definition import TaskDefinition
from rail_async_tasks.rest.views import StartInfo
from rail_async_tasks.service.change import SyncPermit


def permit_of(request: HttpRequest, visitor: Visitor) -> SyncPermit:
    """Returns the check of a retry. It raises what the first class that refuses raises."""
    context = RequestContext(request=request, response=HttpResponse(), user=visitor.user)
    info = StartInfo(context)

    def permit(definition: TaskDefinition, values: dict[str, Any]) -> None:
        check_start(info, definition, values)

    return permit
