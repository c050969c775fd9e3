"""The pages that every page links to, in order."""

from __future__ import annotations

from typing import Final, NamedTuple


class Entry(NamedTuple):
    """A page. `name` is that of its URL."""

    name: str
    title: str


ENTRIES: Final = (
    Entry("list", "Tasks"),
    Entry("errors", "Errors"),
    Entry("queues", "Queues"),
    Entry("processes", "Processes"),
    Entry("schedules", "Schedules"),
    Entry("charts", "Charts"),
)
