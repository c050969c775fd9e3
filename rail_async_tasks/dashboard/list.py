"""The first page, `tasks/`: a live list of the tasks that fit a filter, newest first."""

from __future__ import annotations

import time
from typing import Any, Final
from uuid import UUID

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import path

from rail_async_tasks.conf import get_settings
from rail_async_tasks.dashboard.base import base_page
from rail_async_tasks.dashboard.completions import completions
from rail_async_tasks.dashboard.gate import Visitor, page
from rail_async_tasks.dashboard.query import EXAMPLES, Query, WrongQuery, parse_query
from rail_async_tasks.dashboard.search import Found, find
from rail_async_tasks.dashboard.tables import database
from rail_async_tasks.ids import first_id_at, parse_id

# States that have a link of their own over the list.
TABS: Final = ("running", "pending", "retrying", "failed", "completed", "cancelled")


@page
def list_page(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    """Answers with the page. `?q=` is the filter, `?after=` the last task of the page before."""
    alias, text = database(), request.GET.get("q", "").strip()
    after = parse_id(request.GET.get("after", ""))
    query, problem = _parsed(text)
    found = Found() if problem else find(alias, query, after=after)
    return base_page(
        request,
        visitor,
        "list.html",
        title="Tasks",
        here="list",
        watch=[task.id for task in found.tasks],
        q=text,
        # Of a later page nothing is newer that would belong to it.
        newest=None if after or problem else _newest(found),
        status=400 if problem else 200,
        query=query,
        problem=problem,
        tasks=found.tasks,
        after=after,
        found=found,
        tabs=_tabs(query),
        candidates=completions(alias),
        examples=EXAMPLES,
        disabled=not get_settings().enabled,
    )


def _parsed(text: str) -> tuple[Query, str | None]:
    try:
        return parse_query(text), None
    except WrongQuery as error:
        return Query(), str(error)


def _newest(found: Found) -> UUID:
    return found.tasks[0].id if found.tasks else first_id_at(time.time() - 2)


def _tabs(query: Query) -> list[dict[str, Any]]:
    """Returns the links to each state alone; one of them, or `all`, may be the current one."""
    tabs = [{"title": "all", "q": "", "here": not query}]
    for state in TABS:
        tabs.append(
            {"title": state, "q": f"state:{state}", "here": query == Query(states=(state,))}
        )
    return tabs


ROUTES: Final = (path("tasks/", list_page, name="list"),)
