"""The GraphQL types of a task, rendered from its snapshot."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any, cast
from uuid import UUID

import strawberry
from strawberry.scalars import JSON

from rail_async_tasks.access import Viewer
from rail_async_tasks.conf import get_settings
from rail_async_tasks.graphql.names import NamedType, type_name
from rail_async_tasks.public_errors import error_for
from rail_async_tasks.service import Tracebacks
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.states import Status


def _traceback(root: Any) -> str | None:
    # On an event loop it may be an awaitable, which graphql-core awaits.
    return root.tracebacks and root.tracebacks.get(UUID(root.id))  # type: ignore[no-any-return]


@strawberry.type(description="One request to run a task, as it stands.")
class TaskExecution:
    id: strawberry.ID
    name: str
    status: str = strawberry.field(
        description="pending, running, completed, failed, cancelled or retrying."
    )
    progress: int = strawberry.field(description="Percent, 0 to 100.")
    progress_message: str | None
    result: JSON | None = strawberry.field(description="What the task returned.")
    error: str | None
    error_code: str | None = strawberry.field(
        description="exception, timeout, worker_lost, unknown_task, invalid_args, "
        "result_not_serializable, result_too_large or cancelled."
    )
    error_type: str | None = strawberry.field(
        description="The class name of the exception, e.g. KeyError; null unless the task has "
        "failed or will be retried."
    )
    queue: str
    priority: int = strawberry.field(description="Higher starts first, within a queue.")
    cancel_requested: bool
    attempts: int
    retry_count: int
    max_retries: int
    owner_id: strawberry.ID | None
    parent_id: strawberry.ID | None = strawberry.field(
        description="The task that this one retries."
    )
    seq: int = strawberry.field(description="Grows with every change of state.")
    step: int = strawberry.field(description="Grows with every report of progress within a state.")
    created_at: datetime
    run_after: datetime | None = strawberry.field(description="Not started before this time.")
    started_at: datetime | None
    completed_at: datetime | None
    expires_at: datetime | None = strawberry.field(description="Hidden from reads after this time.")
    updated_at: datetime
    tracebacks: strawberry.Private[Tracebacks | None] = None
    traceback: str | None = strawberry.field(
        resolver=_traceback,
        description="The traceback of the last attempt that failed, for superusers and staff with "
        "the right to view tasks; null for everyone else.",
    )

    @classmethod
    def all_of(cls, snapshots: list[TaskSnapshot], viewer: Viewer) -> list[TaskExecution]:
        """Returns the GraphQL objects of snapshots that `viewer` may see."""
        tracebacks = Tracebacks(viewer, snapshots)
        return [cls.of(snapshot, tracebacks=tracebacks) for snapshot in snapshots]

    @classmethod
    def of(
        cls,
        snapshot: TaskSnapshot,
        viewer: Viewer | None = None,
        *,
        in_stream: bool = False,
        tracebacks: Tracebacks | None = None,
    ) -> TaskExecution:
        """Returns the GraphQL object of a snapshot.

        Its error and its traceback are what `viewer`, or that of `tracebacks`, may read; without
        one, what strangers may.
        """
        if viewer is not None:
            tracebacks = Tracebacks(viewer, (snapshot,), in_stream=in_stream)
        elif tracebacks is not None:
            viewer = tracebacks.viewer
        return cls(
            tracebacks=tracebacks,
            id=strawberry.ID(str(snapshot.id)),
            name=snapshot.name,
            status=str(snapshot.status),
            progress=snapshot.progress,
            progress_message=snapshot.progress_message,
            result=cast("JSON | None", snapshot.result),
            error=error_for(viewer, snapshot, get_settings().public_errors),
            error_code=snapshot.error_code,
            error_type=snapshot.error_type,
            queue=snapshot.queue,
            priority=snapshot.priority,
            cancel_requested=snapshot.cancel_requested,
            attempts=snapshot.attempts,
            retry_count=snapshot.retry_count,
            max_retries=snapshot.max_retries,
            owner_id=None if snapshot.owner_id is None else strawberry.ID(snapshot.owner_id),
            parent_id=None
            if snapshot.parent_id is None
            else strawberry.ID(str(snapshot.parent_id)),
            seq=snapshot.seq,
            step=snapshot.step,
            created_at=snapshot.created_at,
            run_after=snapshot.run_after,
            started_at=snapshot.started_at,
            completed_at=snapshot.completed_at,
            expires_at=snapshot.expires_at,
            updated_at=snapshot.updated_at,
        )


@strawberry.type(description="What a mutation that starts a task answers, before the task has run.")
class TaskMutationPayload:
    task_id: strawberry.ID
    status: str = strawberry.field(
        description="The state at creation: pending; the final one where tasks run inline."
    )
    task: TaskExecution
    error: str | None = strawberry.field(description="Why it failed, where tasks run inline.")

    @classmethod
    def of(cls, snapshot: TaskSnapshot, viewer: Viewer) -> TaskMutationPayload:
        """Returns the payload of a new task.

        A task may already hold a slot when its creation is answered; what was created is still a
        pending one.
        """
        task = TaskExecution.of(snapshot, viewer)
        return cls(
            task_id=strawberry.ID(str(snapshot.id)),
            status=str(snapshot.status) if snapshot.is_final else Status.PENDING.value,
            task=task,
            error=task.error if snapshot.is_final else None,
        )


def execution_type() -> Any:
    """Returns `TaskExecution`, under the name of the settings. Resolvers return either."""
    return _types(type_name("TaskExecution"), type_name("TaskMutationPayload"))[0]


def payload_type() -> Any:
    """Returns `TaskMutationPayload`, under the name of the settings. Resolvers return either."""
    return _types(type_name("TaskExecution"), type_name("TaskMutationPayload"))[1]


@cache
def _types(execution: str, payload: str) -> tuple[type, type]:
    if (execution, payload) == ("TaskExecution", "TaskMutationPayload"):
        return TaskExecution, TaskMutationPayload
    task = _named(execution, TaskExecution, {})
    return task, _named(payload, TaskMutationPayload, {"__annotations__": {"task": task}})


def _named(name: str, base: Any, namespace: dict[str, Any]) -> type:
    made = type(base.__name__, (base,), {"__module__": base.__module__, **namespace})
    return strawberry.type(made, name=name, description=base.__strawberry_definition__.description)


# What fields are annotated with.
EXECUTION = NamedType(execution_type)
MAYBE_EXECUTION = NamedType(lambda: execution_type() | None)
EXECUTIONS = NamedType(lambda: list[execution_type()])  # type: ignore[misc]
MAYBE_PAYLOAD = NamedType(lambda: payload_type() | None)
