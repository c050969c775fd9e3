"""Reads all that a task's page shows: the task, its arguments, history, relatives and process."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from rail_async_tasks import service
from rail_async_tasks.access import Viewer, find_user
from rail_async_tasks.dashboard.tables import database
from rail_async_tasks.dashboard.timeline import Timeline, process_of, timeline_of
from rail_async_tasks.declaration.definition import TaskDefinition
from rail_async_tasks.errors import TaskNotFound
from rail_async_tasks.hosting import process
from rail_async_tasks.ledger.rows import clock, in_utc, snapshot_of, snapshot_rows, unexpired
from rail_async_tasks.models import TaskEvent, TaskExecution, TaskRuntime
from rail_async_tasks.redaction import shown_arguments
from rail_async_tasks.registry import registry
from rail_async_tasks.snapshot import TaskSnapshot

# Retries and events that a page shows; each attempt makes two events.
MOST_RETRIES: Final = 50
MOST_EVENTS: Final = 400


@dataclass(frozen=True, slots=True)
class Change:
    """A row of the audit; `at` is in UTC. `by` is who caused it, a process by its place."""

    seq: int
    from_status: str | None
    to_status: str
    attempt: int
    at: datetime
    actor: str | None
    reason: str
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """A task and what belongs to it.

    Attributes:
        stored: the arguments as the row has them, None where they can't be read.
        arguments: the same with sensitive ones redacted.
        process: the host and process id of the process that holds it, or did so last.
        owner: the owner's name, where a user of this project has that id.
        definition: None where this process does not know the task.
        retries: the newest `MOST_RETRIES`, newest first; `more_retries` says that there are others.
    """

    task: TaskSnapshot
    stored: Mapping[str, Any]
    arguments: Mapping[str, Any]
    traceback: str | None
    process: str
    owner: str | None
    crashes: int
    dispatched_to: str | None
    changes: Sequence[Change]
    timeline: Timeline
    parent: TaskSnapshot | None
    retries: Sequence[TaskSnapshot]
    more_retries: bool
    definition: TaskDefinition | None

    @property
    def handed_back(self) -> int:
        """Returns how many attempts ended with a shutdown of their process."""
        ended = self.task.attempts - (0 if self.task.status in {"pending", "retrying"} else 1)
        return max(ended - self.task.retry_count - self.crashes, 0)


def read_details(viewer: Viewer, task_id: str | UUID) -> Details:
    """Returns the details of a task. Raises `TaskNotFound` as `service.get`."""
    task = service.get(viewer, task_id)
    alias = database()
    row = _rest_of(alias, task.id)
    changes = _changes(alias, task.id)
    places = _places(alias, [row["runtime_id"], *(process_of(it.actor) for it in changes)])
    changes = [_named(it, places) for it in changes]
    holder = row["runtime_id"]
    retries = _retries(alias, task.id)
    text = json.dumps(row["arguments"])
    return Details(
        task=task,
        stored=row["arguments"],
        arguments=shown_arguments(task.name, text) or {},
        traceback=row["traceback"],
        process="" if holder is None else places.get(holder, str(holder)),
        owner=_name_of(task.owner_id),
        crashes=row["crashes"],
        dispatched_to=row["dispatched_to"],
        changes=changes,
        timeline=timeline_of(task, changes, places, clock(alias), holder),
        parent=_one(alias, task.parent_id),
        retries=retries[:MOST_RETRIES],
        more_retries=len(retries) > MOST_RETRIES,
        definition=registry.find(task.name),
    )


def _rest_of(alias: str, task_id: UUID) -> dict[str, Any]:
    """Returns the columns that no snapshot has."""
    rows = TaskExecution.objects.using(alias).filter(id=task_id)
    row = rows.values("arguments", "traceback", "runtime_id", "crashes", "dispatched_to").first()
    if row is None:  # deleted since it was read
        raise TaskNotFound
    return dict(row)


def _changes(alias: str, task_id: UUID) -> list[Change]:
    rows = TaskEvent.objects.using(alias).filter(execution_id=task_id).order_by("seq", "id")
    return [
        Change(
            it.seq, it.from_status, it.to_status, it.attempt, in_utc(it.at), it.actor, it.reason,
            it.actor or "",
        )
        for it in rows[:MOST_EVENTS]
    ]  # fmt: skip


def _named(change: Change, places: Mapping[UUID, str]) -> Change:
    runtime = process_of(change.actor)
    if runtime is None:
        return change
    return Change(
        change.seq, change.from_status, change.to_status, change.attempt, change.at, change.actor,
        change.reason, places.get(runtime, f"process {runtime}"),
    )  # fmt: skip


def _places(alias: str, runtimes: Iterable[UUID | None]) -> dict[UUID, str]:
    ids = {it for it in runtimes if it is not None}
    if not ids:
        return {}
    rows = TaskRuntime.objects.using(alias).filter(id__in=ids)
    return dict(rows.values_list("id", "place"))


def _one(alias: str, task_id: UUID | None) -> TaskSnapshot | None:
    return None if task_id is None else process.ledger().get(task_id)


def _retries(alias: str, task_id: UUID) -> list[TaskSnapshot]:
    rows = snapshot_rows(alias).filter(unexpired(alias), parent_id=task_id).defer("result")
    return [snapshot_of(row) for row in rows.order_by("-id")[: MOST_RETRIES + 1]]


def _name_of(owner_id: str | None) -> str | None:
    """Returns the user's name; None where the owner is no user of this database."""
    if owner_id is None:
        return None
    try:
        user = find_user(owner_id)
    except ValueError:
        return None
    return None if user is None else str(user)
