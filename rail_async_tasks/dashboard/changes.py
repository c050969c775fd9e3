"""What a page that is open needs to know: its rows, the counters, how many new tasks there are.

As HTML of the same templates, each element with the id of the one whose place it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from uuid import UUID

from asgiref.sync import sync_to_async
from django.http import HttpRequest

from rail_async_tasks.dashboard.counters import counters
from rail_async_tasks.dashboard.query import Query, WrongQuery, parse_query
from rail_async_tasks.dashboard.render import shared_values, to_text
from rail_async_tasks.dashboard.search import PAGE, count_newer
from rail_async_tasks.hooks import contained
from rail_async_tasks.hosting import process
from rail_async_tasks.ids import parse_id
from rail_async_tasks.own_views import release_connections
from rail_async_tasks.service.read import all_freshest
from rail_async_tasks.snapshot import TaskSnapshot

T = TypeVar("T")

# New tasks are counted no further.
MOST_NEWS: Final = 100


@dataclass(frozen=True, slots=True)
class Watched:
    """What one open page shows: its tasks, and the filter whose newer tasks it announces."""

    alias: str
    ids: tuple[UUID, ...]
    query: Query
    text: str
    newest: UUID | None
    values: dict[str, Any]

    @classmethod
    def of(cls, request: HttpRequest, alias: str, *, may_change: bool) -> Watched:
        """Returns what the page has asked for. Wrong ids, and more than a page's, are ignored."""
        ids = [parse_id(it) for it in request.GET.get("ids", "").split(",")[:PAGE]]
        text, newest = request.GET.get("q", ""), parse_id(request.GET.get("newest", ""))
        try:
            query = parse_query(text)
        except WrongQuery:
            query, newest = Query(), None
        known = tuple(it for it in ids if it is not None)
        values = {**shared_values(request), "may_change": may_change}
        return cls(alias, known, query, text, newest, values)

    def head(self) -> str:
        """Returns the counters, and the number of new tasks. Queries."""
        news = None
        if self.newest is not None:
            news = count_newer(self.alias, self.query, self.newest, MOST_NEWS)
        values = {"counters": counters(self.alias), "news": news, "most": MOST_NEWS, "q": self.text}
        return to_text("live.html", {**self.values, **values})

    def read(self) -> list[TaskSnapshot]:
        """Returns the page's tasks that still exist, as they stand. Queries."""
        return all_freshest(process.ledger().get_many(self.ids)) if self.ids else []

    def rows(self, tasks: Sequence[TaskSnapshot]) -> str:
        """Returns the rows of these tasks."""
        return to_text("rows.html", {**self.values, "tasks": tasks})


async def aside(call: Callable[[], T]) -> T:
    """Calls in a thread that keeps no connection: a stream stays open for hours."""

    def called() -> T:
        try:
            return call()
        finally:
            release_connections()

    return await sync_to_async(contained(called), thread_sensitive=False)()
