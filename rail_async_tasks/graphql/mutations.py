"""Changing tasks that exist: `cancelTask` and `retryTask`."""

from __future__ import annotations

from typing import Any

import strawberry
from strawberry.types import Info

from rail_async_tasks import service
from rail_async_tasks.auth.permissions import SilentlyRefused, acheck_start, check_start
from rail_async_tasks.declaration.definition import TaskDefinition
from rail_async_tasks.graphql.context import acaller_of, caller_of
from rail_async_tasks.graphql.errors import errors_for_clients, of_the_project
from rail_async_tasks.graphql.types import (
    MAYBE_EXECUTION,
    MAYBE_PAYLOAD,
    TaskExecution,
    TaskMutationPayload,
)
from rail_async_tasks.hooks import on_event_loop


def cancel_task(info: Info, id: strawberry.ID) -> Any:
    return _acancel_task(info, id) if on_event_loop() else _cancel_task(info, id)


async def _acancel_task(info: Info, id: str) -> TaskExecution:
    with errors_for_clients():
        caller = await acaller_of(info)
        return TaskExecution.of(await service.acancel(caller.viewer, id), caller.viewer)


def _cancel_task(info: Info, id: str) -> TaskExecution:
    with errors_for_clients():
        viewer = caller_of(info).viewer
        return TaskExecution.of(service.cancel(viewer, id), viewer)


def retry_task(info: Info, id: strawberry.ID) -> Any:
    return _aretry_task(info, id) if on_event_loop() else _retry_task(info, id)


async def _aretry_task(info: Info, id: str) -> TaskMutationPayload | None:
    async def permit(definition: TaskDefinition, values: dict[str, Any]) -> None:
        with of_the_project():
            await acheck_start(info, definition, values)

    with errors_for_clients():
        caller = await acaller_of(info)
        try:
            snapshot = await service.aretry(
                caller.viewer, id, permit=permit, address=caller.address
            )
        except SilentlyRefused:
            return None
        return TaskMutationPayload.of(snapshot, caller.viewer)


def _retry_task(info: Info, id: str) -> TaskMutationPayload | None:
    def permit(definition: TaskDefinition, values: dict[str, Any]) -> None:
        with of_the_project():
            check_start(info, definition, values)

    with errors_for_clients():
        caller = caller_of(info)
        try:
            snapshot = service.retry(caller.viewer, id, permit=permit, address=caller.address)
        except SilentlyRefused:
            return None
        return TaskMutationPayload.of(snapshot, caller.viewer)


@strawberry.type
class Mutation:
    cancel_task = strawberry.mutation(
        resolver=cancel_task,
        graphql_type=MAYBE_EXECUTION,
        description="Ask an unfinished task to end.",
    )
    retry_task = strawberry.mutation(
        resolver=retry_task,
        graphql_type=MAYBE_PAYLOAD,
        description="Run a finished task again, as a new task.",
    )
