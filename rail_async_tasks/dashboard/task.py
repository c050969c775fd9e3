"""The page of one task, `tasks/<id>/`, and the form that runs it again with other arguments."""

from __future__ import annotations

from typing import Any, Final

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import NoReverseMatch, path, register_converter, reverse

from rail_async_tasks import service
from rail_async_tasks.auth.retry_permits import permit_of
from rail_async_tasks.dashboard.argument_form import FormField, form_of, read_form
from rail_async_tasks.dashboard.base import base_page
from rail_async_tasks.dashboard.gate import Visitor, action, page
from rail_async_tasks.dashboard.json_tree import json_tree, pretty
from rail_async_tasks.dashboard.notices import with_notice
from rail_async_tasks.dashboard.render import Refused
from rail_async_tasks.dashboard.snippets import Places, reads, repeats
from rail_async_tasks.dashboard.task_details import Details, read_details
from rail_async_tasks.declaration.definition import TaskDefinition
from rail_async_tasks.errors import TaskError
from rail_async_tasks.own_views import own_view
from rail_async_tasks.snapshot import TaskSnapshot


class TaskIdConverter:
    """An id in a URL, a malformed one too: it gets the page "Not found", as a missing one.

    Not the words of this package's other URLs, which may be included later than these.
    """

    regex = r"(?!metrics/|health/)[^/]+"

    def to_python(self, value: str) -> str:
        """Returns the text; the service reads it."""
        return value

    def to_url(self, value: object) -> str:
        """Returns the text of an id."""
        return str(value)


register_converter(TaskIdConverter, "rail_task_id")


@page
def task_page(request: HttpRequest, visitor: Visitor, task_id: str) -> HttpResponseBase:
    """Answers with the page."""
    details = read_details(visitor.viewer, task_id)
    task = details.task
    places = Places(_rest_root(request))
    return base_page(
        request,
        visitor,
        "task.html",
        title=task.name,
        here="list",
        watch=[task.id],
        details=details,
        task=task,
        repeatable=task.is_final and details.definition is not None,
        arguments=json_tree(dict(details.arguments)),
        raw_arguments=pretty(dict(details.arguments)),
        result=json_tree(task.result),
        raw_result=pretty(task.result),
        copies=(
            ("read", "Read it", reads(task, places)),
            ("start", "Run it again", repeats(task, places, details.definition, details.stored)),
        ),
    )


@page
def arguments_page(request: HttpRequest, visitor: Visitor, task_id: str) -> HttpResponseBase:
    """Answers with the form, filled in with the task's arguments."""
    details, definition = _repeatable(visitor, task_id)
    if not visitor.may_change:
        raise Refused(
            403,
            "You may look, but not run tasks again. That needs the permission"
            " rail_async_tasks.change_taskexecution.",
        )
    fields = form_of(definition, details.arguments)
    return _form(request, visitor, details.task, definition, fields)


@action
def retry_changed(request: HttpRequest, visitor: Visitor, task_id: str) -> HttpResponseBase:
    """Starts the task with the posted arguments; answers with a redirect to the new task's page.

    A mistake is answered with the form and a message beside the field; nothing is started then.
    """
    details, definition = _repeatable(visitor, task_id)
    posted = read_form(definition, request.POST.dict())
    task = details.task
    if not posted.is_valid:
        return _form(request, visitor, task, definition, posted.fields, status=422)
    try:
        permit = permit_of(request, visitor.user)
        new = service.retry(visitor.viewer, task.id, arguments=posted.values, permit=permit)
    except TaskError as error:
        fields = posted.fields
        return _form(request, visitor, task, definition, fields, error.message, status=422)
    return HttpResponseRedirect(_to_task(request, new, _notice(task, new)))


def _notice(task: TaskSnapshot, new: TaskSnapshot) -> str:
    if new.parent_id == task.id:
        return f"{new.name} runs again, with these arguments."
    return f"Nothing was started: {new.name} is unique, and this one with the same arguments waits."


def _repeatable(visitor: Visitor, task_id: str) -> tuple[Details, TaskDefinition]:
    details = read_details(visitor.viewer, task_id)
    if not details.task.is_final:
        raise Refused(409, "The task has not ended yet. Cancel it first, or wait for its end.")
    if details.definition is None:
        raise Refused(
            409,
            f"This process does not know a task {details.task.name}: its code was renamed or"
            " removed. Deploy the code that declares it.",
        )
    return details, details.definition


def _form(
    request: HttpRequest,
    visitor: Visitor,
    task: TaskSnapshot,
    definition: TaskDefinition,
    fields: Any,
    problem: str = "",
    status: int = 200,
) -> HttpResponse:
    wrong: list[FormField] = [it for it in fields if it.error]
    return base_page(
        request,
        visitor,
        "task_arguments.html",
        title=f"{task.name} with other arguments",
        here="list",
        status=status,
        task=task,
        description=definition.options.description,
        fields=fields,
        wrong=wrong,
        problem=problem,
    )


def _to_task(request: HttpRequest, task: TaskSnapshot, notice: str) -> str:
    match = request.resolver_match
    assert match is not None
    return with_notice(reverse(f"{match.namespace}:task", args=[task.id]), notice)


def _rest_root(request: HttpRequest) -> str | None:
    """Returns the absolute URL of REST's list of tasks; None where it is not served."""
    for namespace in ("rail_async_tasks", "rail_async_tasks_rest"):
        try:
            return request.build_absolute_uri(reverse(f"{namespace}:tasks"))
        except NoReverseMatch:
            continue
    return None


@own_view
def _both(request: HttpRequest, task_id: str) -> HttpResponseBase:
    """Answers GET with the form, and POST with the start."""
    view = retry_changed if request.method == "POST" else arguments_page
    answer: HttpResponseBase = view(request, task_id=task_id)
    return answer


ROUTES: Final = (
    path("tasks/<rail_task_id:task_id>/arguments/", _both, name="arguments"),
    path("tasks/<rail_task_id:task_id>/", task_page, name="task"),
)
