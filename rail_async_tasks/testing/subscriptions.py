"""`subscribe`: a subscription over the project's schema, without a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

from django.test import AsyncRequestFactory
from graphql import GraphQLError

from rail_async_tasks.auth.context import RequestContext
from rail_async_tasks.graphql.schema import get_schema


async def subscribe(
    document: str,
    variables: Mapping[str, Any] | None = None,
    user: Any = None,
    *,
    timeout: float | None = 10.0,
    context: Any = None,
) -> AsyncGenerator[dict[str, Any], None]:
    """Yields the data of each event of a subscription, over the schema of the settings.

    Args:
        user: who subscribes; by default an `AnonymousUser`.
        timeout: seconds to wait for one event; None: for ever.
        context: `info.context`, in place of one like that of our view.

    Raises:
        GraphQLError: the first error of an answer; its `extensions` have the code.
        TimeoutError: no event came in time.
    """
    answer: Any = await get_schema().subscribe(
        document,
        variable_values=dict(variables or {}),
        context_value=_context(user) if context is None else context,
    )
    if not hasattr(answer, "__aiter__"):  # refused before it began
        raise _error_of(answer)
    results: AsyncIterator[Any] = aiter(answer)
    try:
        while True:
            try:
                async with asyncio.timeout(timeout):
                    result = await anext(results)
            except StopAsyncIteration:
                return
            except TimeoutError as error:
                raise TimeoutError(
                    f"No event of the subscription came in {timeout} s. In a test with rail_tasks"
                    " a task changes only by run(): call it before the next event is awaited."
                ) from error
            if result.errors:
                raise _error_of(result)
            yield result.data
    finally:
        await answer.aclose()


def _error_of(result: Any) -> GraphQLError:
    errors: list[GraphQLError] = result.errors
    return errors[0]


def _context(user: Any) -> RequestContext:
    from django.contrib.auth.models import AnonymousUser

    request: Any = AsyncRequestFactory().get("/graphql/")
    request.user = AnonymousUser() if user is None else user

    async def auser() -> Any:
        return request.user

    request.auser = auser
    return RequestContext(request=request, response=None, user=request.user)  # type: ignore[arg-type]
