"""Subscriptions whose events are executed and encoded once for all who read the same.

Each subscriber still watches by itself, and checks its rights by itself: what is shared is the text
of a snapshot, between subscribers with the same document, variables and rights.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from functools import partial
from inspect import isawaitable
from typing import Any, Final

from graphql import ExecutionResult, GraphQLError, execute

from rail_async_tasks import service
from rail_async_tasks.access import Viewer
from rail_async_tasks.auth.caller import refuse_anonymous
from rail_async_tasks.auth.context import RequestContext
from rail_async_tasks.conf import get_settings
from rail_async_tasks.graphql.answers import Answer
from rail_async_tasks.graphql.documents import limits_in_force
from rail_async_tasks.graphql.errors import errors_for_clients, is_request_error
from rail_async_tasks.graphql.plans import Plan, plan_of
from rail_async_tasks.graphql.subscriptions import follow_mine, follow_task
from rail_async_tasks.graphql.types import TaskExecution
from rail_async_tasks.service.renderings import SharedRenderings
from rail_async_tasks.snapshot import TaskSnapshot

# As Strawberry's views encode.
encode_json: Final = partial(json.dumps, separators=(",", ":"))

renderings: Final[SharedRenderings[str]] = SharedRenderings()


class NotShared(Exception):
    """Nothing has been yielded, and the operation is to be executed by itself."""


async def payloads(
    schema: Any,
    context: Any,
    query: str,
    variables: Mapping[str, Any] | None,
    operation_name: str | None,
) -> AsyncGenerator[str, None]:
    """Yields the results of a subscription as JSON, as its own execution would.

    Raises:
        NotShared: something of the project's takes part, or there is an error to report.
    """
    ours = type(context) is RequestContext and context.user is not None
    try:
        plan = plan_of(schema, query, operation_name) if ours else None
    except Exception as error:
        raise NotShared from error
    if plan is None:
        raise NotShared
    begun = False
    try:
        with errors_for_clients():
            async with aclosing(_texts(plan, context, dict(variables or {}))) as texts:
                async for text in texts:
                    begun = True
                    yield text
    except Exception as error:
        if not begun:
            raise NotShared from error
        yield _refusal(schema, error)


async def _texts(
    plan: Plan, context: RequestContext, variables: dict[str, Any]
) -> AsyncGenerator[str, None]:
    caller = await context.caller()
    refuse_anonymous(caller)
    viewer, task_id = caller.viewer, plan.task_id(variables)
    if plan.follows is follow_mine:
        snapshots = service.watch_mine(viewer)
    elif plan.follows is follow_task and task_id is not None:
        snapshots = service.watch(viewer, task_id)
    else:
        raise NotShared
    limit = limits_in_force().answer_bytes
    # All that a text depends on, but for the snapshot.
    key = (
        plan, json.dumps(variables, sort_keys=True), viewer.rights, limit,
        get_settings().public_errors,
    )  # fmt: skip
    shared = renderings.get(key, _renderer(plan, variables, viewer, limit))
    async with aclosing(snapshots):
        async for snapshot in snapshots:
            if snapshot.is_final and task_id is not None:
                context.ended = True
            yield await shared.of(snapshot)


def _renderer(
    plan: Plan, variables: dict[str, Any], viewer: Viewer, limit: int | None
) -> Callable[[TaskSnapshot], str | Awaitable[str]]:
    """Returns the function that executes and encodes one event, for viewers with these rights."""

    def render(snapshot: TaskSnapshot) -> str | Awaitable[str]:
        Answer(limit).take((snapshot,), plan.times)
        result = execute(
            plan.schema._schema,  # noqa: SLF001 - it has no public name
            plan.document,
            TaskExecution.of(snapshot, viewer, in_stream=True),
            None,  # no resolver of ours reads a context, which is one subscriber's
            variables,
            plan.operation_name,
        )
        if isawaitable(result):
            return _encode_later(plan, result)
        return _encoded(plan, result)

    return render


async def _encode_later(plan: Plan, result: Awaitable[Any]) -> str:
    return _encoded(plan, await result)


def _encoded(plan: Plan, result: ExecutionResult) -> str:
    if not result.errors:
        return encode_json({"data": result.data})
    if is_request_error(result):  # of the variables
        raise NotShared
    plan.schema.process_errors(result.errors)
    errors = [error.formatted for error in result.errors]
    return encode_json({"data": result.data, "errors": errors})


def _refusal(schema: Any, error: Exception) -> str:
    """Returns the last result of a subscription that an error ends."""
    located = (
        error if isinstance(error, GraphQLError) else GraphQLError(str(error), original_error=error)
    )
    errors = [located]
    schema.process_errors(errors)
    return encode_json({"data": None, "errors": [each.formatted for each in errors]})
