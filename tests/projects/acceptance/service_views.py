"""The service as a project's Python code calls it: from a loop, and from a thread.

Each view takes `{"do": name, "with": {keyword: value}}` and answers what the call gave, or
`{"error": {"code", "message"}}` where it was refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
from asgiref.sync import async_to_sync
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from rail_async_tasks import service
from rail_async_tasks.auth.caller import Caller, acaller, authenticate
from rail_async_tasks.declare import Task
from rail_async_tasks.errors import TaskError
from rail_async_tasks.snapshot import TaskSnapshot
from tests.projects.acceptance import bad_tasks, tasks

COLUMNS = (
    "id", "name", "status", "progress", "progress_message", "result", "error", "error_code",
    "error_type", "queue", "priority", "cancel_requested", "attempts", "retry_count", "max_retries",
    "owner_id", "parent_id", "seq", "step", "created_at", "run_after", "started_at", "completed_at",
    "expires_at", "updated_at", "traceback",
)  # fmt: skip


def _declared(name: str) -> Task:
    found: Task = getattr(tasks, name, None) or getattr(bad_tasks, name)
    return found


async def _start(caller: Caller, task: str, using: Any = None, **arguments: Any) -> TaskSnapshot:
    bound = _declared(task).using(owner=caller.user, **(using or {}))
    return (await bound.aenqueue(**arguments)).snapshot


def _start_here(caller: Caller, task: str, using: Any = None, **arguments: Any) -> TaskSnapshot:
    bound = _declared(task).using(owner=caller.user, **(using or {}))
    return bound.enqueue(**arguments).snapshot


async def _watch(caller: Caller, id: str) -> list[TaskSnapshot]:
    return [it async for it in service.watch(caller.viewer, id)]


ON_A_LOOP: dict[str, Callable[..., Any]] = {
    "start": _start,
    "read": lambda caller, id: service.aget(caller.viewer, id),
    "list": lambda caller, **asked: service.alist(caller.viewer, **asked),
    "cancel": lambda caller, id: service.acancel(caller.viewer, id),
    "retry": lambda caller, id: service.aretry(caller.viewer, id),
    "watch": _watch,
}
IN_A_THREAD: dict[str, Callable[..., Any]] = {
    "start": _start_here,
    "read": lambda caller, id: service.get(caller.viewer, id),
    "list": lambda caller, **asked: service.list_(caller.viewer, **asked),
    "cancel": lambda caller, id: service.cancel(caller.viewer, id),
    "retry": lambda caller, id: service.retry(caller.viewer, id),
    "watch": async_to_sync(_watch),
}


async def _caller(request: HttpRequest) -> Caller:
    return await acaller(await authenticate(request), request)


@csrf_exempt
async def on_a_loop(request: HttpRequest) -> HttpResponse:
    """Call the functions with an `a`."""
    asked = json.loads(request.body)
    try:
        caller = await _caller(request)
        return _answer(await ON_A_LOOP[asked["do"]](caller, **asked["with"]))
    except TaskError as error:
        return _refusal(error)


@csrf_exempt
def in_a_thread(request: HttpRequest) -> HttpResponse:
    """Call their twins."""
    asked = json.loads(request.body)
    try:
        caller = async_to_sync(_caller)(request)
        return _answer(IN_A_THREAD[asked["do"]](caller, **asked["with"]))
    except TaskError as error:
        return _refusal(error)


def _answer(given: TaskSnapshot | list[TaskSnapshot]) -> HttpResponse:
    many = isinstance(given, list)
    # A snapshot has no traceback, which these callers could not read over the other edges either.
    columns = [
        {name: getattr(it, name, None) for name in COLUMNS} for it in (given if many else [given])
    ]
    return HttpResponse(msgspec.json.encode(columns if many else columns[0]))


def _refusal(error: TaskError) -> HttpResponse:
    answer = {"error": {"code": error.code, "message": error.message}}
    return HttpResponse(msgspec.json.encode(answer), status=400)
