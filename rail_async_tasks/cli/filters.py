"""The filter of `list`, `cancel` and `retry`, its options, and the rows that it chooses."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from django.db.models import Q

from rail_async_tasks.cli.exits import Stop
from rail_async_tasks.conf import get_settings
from rail_async_tasks.durations import parse_duration
from rail_async_tasks.hosting import process
from rail_async_tasks.ledger.port import Ledger
from rail_async_tasks.ledger.rows import now, snapshot_of, snapshot_rows, unexpired
from rail_async_tasks.rollups.error_places import NO_PLACE
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.states import Status
from rail_async_tasks.text import is_storable

# Rows of one query.
PAGE: Final = 500
# Only these may have an error.
_WITH_ERRORS: Final = (Status.FAILED, Status.RETRYING)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which tasks. `older_than` is the least age in seconds since the task was created."""

    statuses: tuple[str, ...] = ()
    name: str | None = None
    queue: str | None = None
    owner: str | None = None
    error: str | None = None
    place: str | None = None
    older_than: float | None = None
    after: UUID | None = None

    def __bool__(self) -> bool:
        return self != Filter()

    def page(self, limit: int) -> list[TaskSnapshot]:
        """Returns the newest tasks that fit, those that come after `after`. One query."""
        alias = database()
        rows = snapshot_rows(alias).filter(unexpired(alias))
        if self.statuses:
            rows = rows.filter(status__in=self.statuses)
        equal = {"name": self.name, "queue": self.queue, "owner_id": self.owner}
        rows = rows.filter(**{key: text for key, text in equal.items() if text is not None})
        if self.error is not None:
            rows = rows.filter(Q(error_type=self.error) | Q(error_code=self.error))
        if self.place == NO_PLACE:
            rows = rows.filter(error_place__isnull=True, status__in=_WITH_ERRORS)
        elif self.place is not None:
            rows = rows.filter(error_place=self.place)
        if self.older_than is not None:
            at = now(alias) - timedelta(seconds=self.older_than)
            rows = rows.filter(created_at__lte=at)
        if self.after is not None:
            rows = rows.filter(id__lt=self.after)
        return [snapshot_of(row) for row in rows.order_by("-id")[:limit]]

    def pages(self, limit: int | None) -> Iterator[Sequence[TaskSnapshot]]:
        """Yields the newest `limit` tasks that fit, a page at a time; all of them without one."""
        which, left = self, limit
        while left is None or left > 0:
            page = which.page(PAGE if left is None else min(PAGE, left))
            if page:
                yield page
            if len(page) < PAGE:
                return
            left = None if left is None else left - len(page)
            which = replace(which, after=page[-1].id)


def database() -> str:
    """Returns the alias of the database of the tasks.

    Raises:
        Stop: tasks are kept in the memory of the processes that run them.
    """
    if not get_settings().track_in_database:
        raise Stop(
            'task_settings["track_in_database"] is False: the tasks are in the memory of the'
            " processes that run them, which no command reads. Set it to True.",
            4,
        )
    ledger = process.ledger()
    return alias_of(ledger)


def alias_of(ledger: Ledger) -> str:
    """Returns the alias of the ledger's database."""
    return str(getattr(ledger, "alias", "default"))


def add_filter(parser: argparse.ArgumentParser) -> None:
    """Adds the options of a filter."""
    parser.add_argument(
        "--status", action="append", metavar="S", type=_status,
        help="Only tasks in this state. May be given several times.",
    )  # fmt: skip
    parser.add_argument("--name", type=_text, help="Only tasks of this name.")
    parser.add_argument("--queue", type=_text, help="Only tasks of this queue.")
    parser.add_argument("--owner", type=_text, metavar="ID", help="Only tasks of this user.")
    parser.add_argument(
        "--error", type=_text, metavar="CLASS",
        help="Only tasks whose last attempt ended by this exception class, or error code.",
    )  # fmt: skip
    parser.add_argument(
        "--place", type=_text,
        help=f"Only tasks whose error came from there, as `errors` says; {NO_PLACE}: without one.",
    )  # fmt: skip
    parser.add_argument(
        "--older-than", type=_duration, metavar="AGE",
        help="Only tasks that were created so long ago or earlier: 90s, 30m, 1h, 2d.",
    )  # fmt: skip


def filter_of(options: Mapping[str, Any]) -> Filter:
    """Returns the filter that the options ask for."""
    return Filter(
        statuses=tuple(options["status"] or ()),
        name=options["name"],
        queue=options["queue"],
        owner=options["owner"],
        error=options["error"],
        place=options["place"],
        older_than=options["older_than"],
    )


def _status(text: str) -> str:
    if text not in set(Status):
        known = ", ".join(Status)
        raise argparse.ArgumentTypeError(f"there is no status {text!r}. Known are {known}.")
    return text


def _text(text: str) -> str:
    if not is_storable(text):
        raise argparse.ArgumentTypeError("it contains a NUL or an unpaired surrogate; remove it.")
    return text


def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def limit_type(text: str) -> int:
    """Reads a limit: a number of tasks from 1 to 10,000."""
    if not text.isdecimal() or not 1 <= int(text) <= 10_000:
        raise argparse.ArgumentTypeError(f"must be a number from 1 to 10000, not {text!r}.")
    return int(text)
