"""The REST views: list, read, cancel, retry, follow. `endpoint` is around each of them."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from rail_async_tasks import service
from rail_async_tasks.auth.caller import Caller
from rail_async_tasks.auth.retry_permits import apermit_of
from rail_async_tasks.conf import get_settings
from rail_async_tasks.errors import TaskNotFound
from rail_async_tasks.rest.endpoint import CHANGE, READ, endpoint, root_url
from rail_async_tasks.rest.events import events_response
from rail_async_tasks.rest.parameters import LIST_PARAMETERS, read_limit
from rail_async_tasks.rest.refusals import json_response
from rail_async_tasks.rest.render import render_page, render_task, within_limit

Query = dict[str, str]


@endpoint(READ, LIST_PARAMETERS)
async def many_tasks(request: HttpRequest, caller: Caller, query: Query) -> HttpResponse:
    """Returns the caller's tasks, newest first, and the cursor of the next page."""
    limit = read_limit(query.pop("limit", None))
    at_most = get_settings().limits.answer_bytes
    read: Any = partial(service.alist, caller.viewer, at_most=at_most)
    found = await read(**query, limit=min(limit + 1, service.MAX_PAGE))
    page, more = found[:limit], found[limit:]
    if len(page) == service.MAX_PAGE:  # the service reads no more at once
        query["after"] = str(page[-1].id)
        more = await read(**query, limit=1, results=False)
    following = page[-1].id if more else None
    return json_response(within_limit(await render_page(page, following, caller.viewer)))


@endpoint(READ)
async def one_task(
    request: HttpRequest, caller: Caller, query: Query, task_id: str
) -> HttpResponse:
    """Returns the task."""
    snapshot = await service.aget(caller.viewer, task_id)
    return json_response(within_limit(await render_task(snapshot, caller.viewer)))


@endpoint(CHANGE)
async def cancel_task(
    request: HttpRequest, caller: Caller, query: Query, task_id: str
) -> HttpResponse:
    """Requests the cancel of an unfinished task; returns the task afterwards."""
    snapshot = await service.acancel(caller.viewer, task_id)
    return json_response(await render_task(snapshot, caller.viewer))


@endpoint(CHANGE)
async def retry_task(
    request: HttpRequest, caller: Caller, query: Query, task_id: str
) -> HttpResponse:
    """Runs a finished task again; returns the new task and its URL."""
    permit = apermit_of(request, caller.user)
    snapshot = await service.aretry(caller.viewer, task_id, permit=permit, address=caller.address)
    response = json_response(await render_task(snapshot, caller.viewer), 201)
    response["Location"] = f"{root_url(request)}{snapshot.id}/"
    return response


@endpoint(READ)
async def task_events(
    request: HttpRequest, caller: Caller, query: Query, task_id: str
) -> HttpResponseBase:
    """Returns the task, then its changes, as server-sent events."""
    return await events_response(request, caller, task_id)


@endpoint(None)
async def no_such_url(request: HttpRequest, caller: Caller, query: Query) -> HttpResponse:
    """Answers 404 for other URLs below the list, such as ids with a slash."""
    raise TaskNotFound
