"""The actions on one task: cancel and retry.

A plain form gets a redirect to a page; the script, which asks with htmx's header, gets the parts of
the page that have changed.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import path, reverse
from django.utils.http import url_has_allowed_host_and_scheme

from rail_async_tasks import service
from rail_async_tasks.auth.retry_permits import permit_of
from rail_async_tasks.dashboard.gate import Visitor, action, reverse_list
from rail_async_tasks.dashboard.notices import with_notice
from rail_async_tasks.dashboard.render import is_partial, render
from rail_async_tasks.snapshot import TaskSnapshot


@action
def cancel_task(request: HttpRequest, visitor: Visitor, task_id: UUID) -> HttpResponseBase:
    """Cancels a task; answers with its row, or a redirect to where the form was."""
    task = service.cancel(visitor.viewer, task_id)
    done = "is cancelled" if task.is_final else "is asked to end"
    return answer(request, f"{task.name} {done}.", changed=task)


@action
def retry_task(request: HttpRequest, visitor: Visitor, task_id: UUID) -> HttpResponseBase:
    """Starts a finished task again; answers with a link, or a redirect, to the new one."""
    task = service.retry(visitor.viewer, task_id, permit=permit_of(request, visitor.user))
    match = request.resolver_match
    assert match is not None
    to = reverse(f"{match.namespace}:task", args=[task.id])
    return answer(request, f"{task.name} runs again, as a new task.", to=to)


def answer(
    request: HttpRequest, notice: str, *, changed: TaskSnapshot | None = None, to: str | None = None
) -> HttpResponse:
    """Returns the answer to an action that was done.

    Args:
        notice: what was done, a sentence.
        changed: the task whose row is to be shown anew.
        to: a page to go to, or to link to; without one, where the form was.
    """
    if is_partial(request):
        values = {"message": notice, "url": to, "may_change": True}
        tasks = [] if changed is None else [changed]
        return render(request, "done.html", {**values, "tasks": tasks})
    return HttpResponseRedirect(with_notice(to or _origin(request), notice))


def _origin(request: HttpRequest) -> str:
    """Returns `next` of the form, a path of this site; else the list."""
    to = request.POST.get("next", "")
    if to.startswith("/") and url_has_allowed_host_and_scheme(to, allowed_hosts=None):
        return to
    return reverse_list(request)


ROUTES: Final = (
    path("tasks/<uuid:task_id>/cancel/", cancel_task, name="cancel"),
    path("tasks/<uuid:task_id>/retry/", retry_task, name="retry"),
)
