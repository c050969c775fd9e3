"""TaskSnapshot: an execution at one (seq, step). It travels on the bus, and edges render it."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from rail_async_tasks.states import FINAL


class TaskSnapshot(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One execution at one moment. `seq` counts state changes, `step` progress within one of them.

    `result` is the decoded JSON value, `progress` a percentage from 0 to 100; times are in UTC.
    """

    id: UUID
    name: str
    status: str
    queue: str
    created_at: datetime
    updated_at: datetime
    progress: int = 0
    progress_message: str | None = None
    result: Any = None
    error: str | None = None
    error_code: str | None = None
    error_type: str | None = None
    priority: int = 0
    cancel_requested: bool = False
    attempts: int = 0
    retry_count: int = 0
    max_retries: int = 0
    owner_id: str | None = None
    tenant_id: str | None = None
    parent_id: UUID | None = None
    seq: int = 1
    step: int = 0
    run_after: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    expires_at: datetime | None = None

    @property
    def is_final(self) -> bool:
        """Whether the execution cannot change any more."""
        return self.status in FINAL

    @property
    def version(self) -> tuple[int, int]:
        """The version, which only grows for a watcher."""
        return (self.seq, self.step)


def task_topic(execution_id: UUID) -> str:
    """Returns the bus topic of one execution's changes."""
    return f"task:{execution_id}"


def task_id_of(topic: str) -> UUID | None:
    """Returns the execution of a topic; None for the topic of an owner."""
    return UUID(topic[5:]) if topic.startswith("task:") else None


def owner_topic(owner_id: str, tenant_id: str | None) -> str:
    """Returns the bus topic of all changes of one user's executions, within a tenant."""
    # The owner comes last, so that no tenant id can imitate another user's topic.
    return f"owner:{len(tenant_id) if tenant_id is not None else '-'}:{tenant_id or ''}:{owner_id}"


def owner_of(topic: str) -> str | None:
    """Returns the owner of a topic; None for the topic of an execution."""
    if not topic.startswith("owner:"):
        return None
    length, _, rest = topic.removeprefix("owner:").partition(":")
    return rest[0 if length == "-" else int(length) :][1:]


def topics(snapshot: TaskSnapshot) -> tuple[str, ...]:
    """Returns the topics that a snapshot is published to."""
    if snapshot.owner_id is None:
        return (task_topic(snapshot.id),)
    return (task_topic(snapshot.id), owner_topic(snapshot.owner_id, snapshot.tenant_id))
