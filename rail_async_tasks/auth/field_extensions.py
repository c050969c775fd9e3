"""Runs Strawberry's field extensions around a call, from async code or without an event loop.

Strawberry chooses one form per field when it builds a schema. A task's field serves both kinds of
view, so the form is chosen per execution. An extension that has only the other form is bridged.
What an extension raises is its own error, however bad (see `hooks`): the start is refused by it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from inspect import isawaitable
from typing import Any

from asgiref.sync import async_to_sync, sync_to_async
from strawberry.extensions.field_extension import FieldExtension

from rail_async_tasks.hooks import awaited, contained, is_cancelled, name_of

Next = Callable[..., Any]
AsyncNext = Callable[..., Awaitable[Any]]


async def arun(
    extensions: Sequence[FieldExtension],
    resolver: AsyncNext,
    source: Any,
    info: Any,
    values: dict[str, Any],
) -> Any:
    """Awaits `resolver(source, info, **values)` through the extensions, the last one outermost."""
    chained: Next = resolver
    for extension in extensions:
        if extension.supports_async:
            chained = partial(_awaited, extension.resolve_async, chained)
        elif extension.supports_sync:
            chained = partial(_in_thread, extension.resolve, chained)
    return await _ended(chained, source, info, **values)


def run(
    extensions: Sequence[FieldExtension],
    resolver: Next,
    source: Any,
    info: Any,
    values: dict[str, Any],
) -> Any:
    """`arun()` for a thread without a running event loop."""
    chained: Next = resolver
    for extension in extensions:
        if extension.supports_sync:
            chained = partial(contained(extension.resolve), chained)
        elif extension.supports_async:
            chained = partial(_on_a_loop, extension.resolve_async, chained)
    return chained(source, info, **values)


async def _awaited(resolve: Next, next_: Next, source: Any, info: Any, /, **values: Any) -> Any:
    """Awaits an extension's `resolve_async`."""
    return await awaited(lambda: _ended(resolve, next_, source, info, **values), name_of(resolve))


async def _ended(resolve: Next, /, *args: Any, **values: Any) -> Any:
    """Calls, and awaits as long as the answer is an awaitable: of `next_`, which was returned."""
    answer = resolve(*args, **values)
    while isawaitable(answer):
        answer = await answer
    return answer


async def _in_thread(
    resolve: Next, next_: AsyncNext, source: Any, info: Any, /, **values: Any
) -> Any:
    """Calls an extension without `resolve_async`: its code may block."""
    on_the_loop = async_to_sync(partial(_ended, next_))
    in_thread = sync_to_async(contained(resolve))
    try:
        return await in_thread(on_the_loop, source, info, **values)
    except RuntimeError as error:
        # The request was cancelled while `next_` ran: a thread can't raise that by itself.
        if isinstance(error.__cause__, asyncio.CancelledError) and is_cancelled():
            raise error.__cause__ from None
        raise


def _on_a_loop(
    resolve_async: AsyncNext, next_: Next, source: Any, info: Any, /, **values: Any
) -> Any:
    """Calls an extension without `resolve`; what it wraps stays in this thread."""
    # `async_to_sync` runs thread-sensitive functions in the thread that called it, and so in the
    # transaction that is open there.
    return async_to_sync(_awaited)(resolve_async, sync_to_async(next_), source, info, **values)
