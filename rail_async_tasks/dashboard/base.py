"""What every page has: navigation, counters, the live connection."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.http import urlencode

from rail_async_tasks.dashboard.assets import ASSETS, HTMX, has
from rail_async_tasks.dashboard.counters import counters
from rail_async_tasks.dashboard.gate import Visitor, full_path
from rail_async_tasks.dashboard.nav import ENTRIES
from rail_async_tasks.dashboard.notices import notice_of, without_notice
from rail_async_tasks.dashboard.render import render
from rail_async_tasks.dashboard.tables import database


def base_page(
    request: HttpRequest,
    visitor: Visitor,
    template: str,
    *,
    title: str,
    here: str,
    status: int = 200,
    watch: Iterable[UUID] = (),
    q: str = "",
    newest: UUID | None = None,
    **values: Any,
) -> HttpResponse:
    """Returns a page whose template extends `base.html`.

    Args:
        here: the name of the page's entry in the navigation.
        watch: tasks whose rows on the page change as the tasks do.
        q, newest: the filter, and the task; newer ones that fit are announced.
        values: what the template shows.

    The template also has `visitor`, `may_change`, `notice`, the outcome of an action, and `back`,
    this page's URL for the field `next` of forms.
    """
    match = request.resolver_match
    assert match is not None
    live = {"ids": ",".join(map(str, watch)), "q": q, "newest": str(newest or "")}
    shared = {
        "title": title,
        "here": here,
        "entries": ENTRIES,
        "visitor": visitor,
        "may_change": visitor.may_change,
        "counters": counters(database()),
        "notice": notice_of(request),
        "back": without_notice(full_path(request)),
        "live": f"{reverse(f'{match.namespace}:live')}?{urlencode(live)}",
        "q": q,
        "htmx": HTMX if has(HTMX) else None,
        "scripts": [name for name in ASSETS if name.endswith(".js") and name != HTMX],
    }
    return render(request, template, {**shared, **values}, status)
