"""The pages `tasks/bulk/retry/` and `tasks/bulk/cancel/`: a change of all that fits a filter."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from django.http import HttpRequest, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import path, reverse
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from rail_async_tasks import queues, service
from rail_async_tasks.access import Viewer
from rail_async_tasks.conf import get_settings
from rail_async_tasks.dashboard.base import base_page
from rail_async_tasks.dashboard.bulk_choice import (
    CHANGES,
    MOST_COUNTED,
    RETRY,
    BulkChange,
    Choice,
    choose,
    count,
)
from rail_async_tasks.dashboard.bulk_tasks import bulk_cancel, bulk_retry
from rail_async_tasks.dashboard.gate import Visitor, action, page
from rail_async_tasks.dashboard.notices import with_notice
from rail_async_tasks.dashboard.query import WrongQuery
from rail_async_tasks.dashboard.tables import database
from rail_async_tasks.ledger.rows import clock
from rail_async_tasks.own_views import own_view
from rail_async_tasks.service import EnqueueOptions
from rail_async_tasks.snapshot import TaskSnapshot


@page
def bulk_page(request: HttpRequest, visitor: Visitor, verb: str) -> HttpResponseBase:
    """Answers with how many tasks the filter `?q=` chooses, and the form that confirms it."""
    return _form(request, visitor, CHANGES[verb], request.GET.get("q", "").strip())


@action
def start_bulk(request: HttpRequest, visitor: Visitor, verb: str) -> HttpResponseBase:
    """Starts the change once it is confirmed; answers with a redirect to its task's page.

    The form posts the filter `q`, the time `before` at which it was counted, the `number` that was
    shown, and `confirm`, which must be that number or the verb.
    """
    change, q = CHANGES[verb], request.POST.get("q", "").strip()
    before = _time_of(request.POST.get("before", ""))
    typed = request.POST.get("confirm", "").strip().lower().replace(",", "")
    number = request.POST.get("number", "")
    if before is None or before > clock(database()):
        return _form(request, visitor, change, q, "The form was incomplete. Confirm it again.")
    if typed not in {change.verb, number} or not typed:
        wanted = f"{number} or {change.verb}" if number else change.verb
        problem = f"Nothing was {change.participle}. To confirm, type {wanted}."
        return _form(request, visitor, change, q, problem)
    try:
        choose(database(), change, q, before)
    except WrongQuery as error:
        return _form(request, visitor, change, q, str(error))
    task = start(visitor.viewer, change, q, before)
    match = request.resolver_match
    assert match is not None
    to = reverse(f"{match.namespace}:task", args=[task.id])
    notice = f"The tasks are being {change.participle}; this is the task that does it."
    return HttpResponseRedirect(with_notice(to, notice))


def start(viewer: Viewer, change: BulkChange, q: str, before: datetime) -> TaskSnapshot:
    """Starts the task that makes a bulk change, as the viewer's own.

    A second start of the same change, while the first is unfinished, returns the first.
    """
    task = bulk_retry if change is RETRY else bulk_cancel
    options = EnqueueOptions(
        queue=_open_queue(),
        unique_key=f"{before.isoformat()} {q}",
        owner_id=viewer.user_id,
        tenant_id=viewer.tenant_id,
        actor=viewer.user_id,
    )
    return service.enqueue(task.definition, {"q": q, "before": before}, options)


def _open_queue() -> str:
    """Returns the default queue, or another one of the settings where that is paused.

    A queue is paused to mend what fails in it; the retry of what has failed must not wait for that.
    """
    settings = get_settings()
    paused = {it.name for it in queues.list() if it.paused}
    known = sorted(settings.queues, key=lambda name: -settings.queues[name].priority)
    names = [settings.default_queue, *known]
    return next((name for name in names if name not in paused), settings.default_queue)


def _form(
    request: HttpRequest, visitor: Visitor, change: BulkChange, q: str, problem: str = ""
) -> HttpResponseBase:
    alias = database()
    before = clock(alias)
    wrong, chosen = "", None
    try:
        choice: Choice | None = choose(alias, change, q, before)
    except WrongQuery as error:
        wrong, choice = str(error), None
    if choice is not None:
        chosen = count(choice)
    return base_page(
        request,
        visitor,
        "bulk.html",
        title=f"{change.verb.capitalize()} what fits a filter",
        here="list",
        status=422 if problem or wrong else 200,
        change=change,
        page=f"bulk-{change.verb}",
        filter=q,
        states=() if choice is None else choice.query.states,
        before=before,
        count=chosen,
        most=MOST_COUNTED,
        problem=problem or wrong,
    )


def _time_of(text: str) -> datetime | None:
    try:
        found = parse_datetime(text)
    except ValueError:
        return None
    return None if found is None or timezone.is_naive(found) else found


@own_view
def _both(request: HttpRequest, verb: str) -> HttpResponseBase:
    """Answers GET with the page, and POST with the start."""
    view = start_bulk if request.method == "POST" else bulk_page
    answer: HttpResponseBase = view(request, verb=verb)
    return answer


ROUTES: Final = tuple(
    path(f"tasks/bulk/{verb}/", _both, {"verb": verb}, name=f"bulk-{verb}") for verb in CHANGES
)
