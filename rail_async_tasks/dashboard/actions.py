"""The actions on one task: cancel and retry."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import path, reverse
from django.utils.http import url_has_allowed_host_and_scheme, urlencode

from rail_async_tasks import service
from rail_async_tasks.dashboard.gate import Visitor, action, reverse_list


@action
def cancel_task(request: HttpRequest, visitor: Visitor, task_id: UUID) -> HttpResponseBase:
    """Cancels a task; answers with a redirect to where the form was."""
    task = service.cancel(visitor.viewer, task_id)
    done = "is cancelled" if task.is_final else "is asked to end"
    return back(request, f"{task.name} {done}.")


@action
def retry_task(request: HttpRequest, visitor: Visitor, task_id: UUID) -> HttpResponseBase:
    """Starts a finished task again; answers with a redirect to the new task's page."""
    task = service.retry(visitor.viewer, task_id)
    match = request.resolver_match
    assert match is not None
    to = reverse(f"{match.namespace}:task", args=[task.id])
    return HttpResponseRedirect(f"{to}?{urlencode({'notice': f'{task.name} runs again.'})}")


def back(request: HttpRequest, notice: str) -> HttpResponse:
    """Returns a redirect to `next` of the form, else to the list; the page shows `notice`."""
    to = request.POST.get("next", "")
    if not to.startswith("/") or not url_has_allowed_host_and_scheme(to, allowed_hosts=None):
        to = reverse_list(request)
    sign = "&" if "?" in to else "?"
    return HttpResponseRedirect(f"{to}{sign}{urlencode({'notice': notice})}")


ROUTES: Final = (
    path("tasks/<uuid:task_id>/cancel/", cancel_task, name="cancel"),
    path("tasks/<uuid:task_id>/retry/", retry_task, name="retry"),
)
