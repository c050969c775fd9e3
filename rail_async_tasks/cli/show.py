"""`tasks show`: all that is known of one task, its arguments and traceback too."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from rail_async_tasks import service
from rail_async_tasks.access import SYSTEM
from rail_async_tasks.cli.exits import OK
from rail_async_tasks.cli.fields import fields_of
from rail_async_tasks.cli.filters import database
from rail_async_tasks.cli.ids import find_id
from rail_async_tasks.cli.list import age_of
from rail_async_tasks.cli.screen import Screen
from rail_async_tasks.cli.words import duration, lines, moment, one_line
from rail_async_tasks.hosting import process
from rail_async_tasks.ledger.rows import in_utc
from rail_async_tasks.models import TaskEvent, TaskExecution, TaskRuntime
from rail_async_tasks.redaction import shown_arguments
from rail_async_tasks.snapshot import TaskSnapshot

# Fields whose line is left out where they are empty; all others always have one.
_IF_ANY: Final = (
    "owner_id", "tenant_id", "parent_id", "run_after", "started_at", "completed_at", "expires_at",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the id."""
    parser.add_argument("id", metavar="ID", help="The task's id, or the beginning of it.")


def run(screen: Screen, options: Mapping[str, Any]) -> int:
    """Writes the task. Returns the exit code."""
    task = service.get(SYSTEM, find_id(options["id"]))
    ledger = process.ledger()
    more = {
        "traceback": ledger.tracebacks([task.id]).get(task.id),
        "tenant_id": task.tenant_id,
        "arguments": shown_arguments(task.name, ledger.arguments(task.id)),
        "process": _process_of(task.id),
        "events": _events(task.id),
    }
    if options["json"]:
        screen.document({**fields_of(task), **more})
        return OK
    for line in _text(task, more):
        screen.line(line)
    return OK


def _text(task: TaskSnapshot, more: Mapping[str, Any]) -> Iterator[str]:
    facts: dict[str, object] = {
        "id": task.id,
        "name": task.name,
        "status": f"{task.status}, cancel requested" if task.cancel_requested else task.status,
        "progress": f"{task.progress}% {task.progress_message or ''}".rstrip(),
        "queue": f"{task.queue}, priority {task.priority}",
        "attempts": f"{task.attempts}, retries {task.retry_count} of {task.max_retries}",
        "process": more["process"] or "-",
        "created_at": f"{moment(task.created_at)} ({age_of(task)} ago)",
    }
    for name in _IF_ANY:
        value = getattr(task, name)
        if value is not None:
            facts[name] = moment(value) if isinstance(value, datetime) else value
    if task.started_at is not None:
        until = task.completed_at or task.updated_at
        facts["ran"] = duration((until - task.started_at).total_seconds())
    for name, value in facts.items():
        yield f"{name.removesuffix('_at').removesuffix('_id') + ':':<11}{one_line(value)}"
    yield from _block("arguments", _pretty(more["arguments"]))
    if task.result is not None:
        yield from _block("result", _pretty(task.result))
    if task.error is not None:
        kind = ", ".join(it for it in (task.error_code, task.error_type) if it)
        yield from _block(f"error ({one_line(kind)})", task.error)
    if more["traceback"]:
        yield from _block("traceback", more["traceback"])
    if more["events"]:
        yield from _block("history", "\n".join(map(_event_line, more["events"])))


def _block(title: str, text: str) -> Iterator[str]:
    yield ""
    yield f"{title}:"
    yield from (f"  {line}".rstrip() for line in lines(text.rstrip()))


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _event_line(event: Mapping[str, Any]) -> str:
    before = event["from_status"] or "-"
    return (
        f"{moment(event['at'])}  {before} -> {event['to_status']}  {event['reason']}"
        f"  by {event['actor'] or '-'}"
    )


def _process_of(task_id: UUID) -> str | None:
    """Returns the host and process id of the process that holds the task."""
    alias = database()
    rows = TaskExecution.objects.using(alias).filter(id=task_id)
    holder = rows.values_list("runtime_id", flat=True).first()
    if holder is None:
        return None
    places = TaskRuntime.objects.using(alias).filter(id=holder).values_list("place", flat=True)
    return places.first()


def _events(task_id: UUID) -> list[dict[str, Any]]:
    """Returns the audit's rows of the task, oldest first."""
    rows = TaskEvent.objects.using(database()).filter(execution_id=task_id).order_by("seq", "id")
    names = ("at", "from_status", "to_status", "attempt", "reason", "actor")
    return [{name: _utc(getattr(row, name)) for name in names} for row in rows]


def _utc(value: Any) -> Any:
    return in_utc(value) if isinstance(value, datetime) else value
