"""`tasks list`: the newest tasks that fit a filter."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from rail_async_tasks.access import SYSTEM
from rail_async_tasks.cli.exits import OK
from rail_async_tasks.cli.fields import fields_of
from rail_async_tasks.cli.filters import add_filter, filter_of, limit_type
from rail_async_tasks.cli.ids import find_id
from rail_async_tasks.cli.screen import Screen
from rail_async_tasks.cli.tables import Column
from rail_async_tasks.cli.words import duration, one_line
from rail_async_tasks.conf import get_settings
from rail_async_tasks.queue_limits import queue_limits
from rail_async_tasks.registry import registry
from rail_async_tasks.service import Tracebacks
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.states import Status

DEFAULT_LIMIT: Final = 50


def _state(task: TaskSnapshot) -> str:
    percent = f" {task.progress}%" if task.status == Status.RUNNING else ""
    return f"{task.status}{percent}"


def age_of(task: TaskSnapshot) -> str:
    """Returns how long ago the task was created."""
    return duration((datetime.now(UTC) - task.created_at).total_seconds())


# The id is never cut: it is what the next command is given.
COLUMNS: Final = (
    Column("ID", lambda task: task.id),
    Column("STATUS", _state),
    Column("AGE", age_of, right=True),
    Column("NAME", lambda task: task.name, shrinks=True),
    Column("QUEUE", lambda task: task.queue, spare=1, shrinks=True),
    Column("TRIES", lambda task: task.attempts, spare=2, right=True),
    Column("OWNER", lambda task: task.owner_id or "-", spare=3, shrinks=True),
    Column("ERROR", lambda task: task.error_type or task.error_code or "-", spare=4, shrinks=True),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    add_filter(parser)
    parser.add_argument(
        "--limit", type=limit_type, default=DEFAULT_LIMIT, metavar="N",
        help="At most so many tasks (default: %(default)s).",
    )  # fmt: skip
    parser.add_argument("--after", metavar="ID", help="Only tasks that are older than this one.")


def run(screen: Screen, options: Mapping[str, Any]) -> int:
    """Writes the newest tasks that fit. Returns the exit code."""
    which, limit = filter_of(options), options["limit"]
    if options["after"] is not None:
        which = replace(which, after=find_id(options["after"]))
    found = which.page(limit + 1)
    tasks, following = found[:limit], found[limit - 1].id if len(found) > limit else None
    if options["json"]:
        tracebacks = Tracebacks(SYSTEM, tasks)
        results = [{**fields_of(it), "traceback": tracebacks.get(it.id)} for it in tasks]
        screen.document({"results": results, "next": following})
        return OK
    if not tasks:
        screen.line("No task fits." if which else "There are no tasks.")
        if which.queue is not None:
            _name_the_queues(screen, which.queue)
        return OK
    screen.table(COLUMNS, tasks)
    if following is not None and screen.width is not None:
        screen.line(f"More: --after {following}, or a higher --limit.")
    return OK


def _name_the_queues(screen: Screen, queue: str) -> None:
    """Says so where this project has no such queue: a name may be mistyped."""
    known = [it.name for it in queue_limits(get_settings(), registry)]
    if queue not in known:
        screen.line(f"There is no queue {one_line(queue)}. The queues: {', '.join(known)}.")
