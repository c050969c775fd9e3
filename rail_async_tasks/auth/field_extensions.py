"""Runs Strawberry's field extensions around a call, from async code or without an event loop.

Strawberry chooses one form per field when it builds a schema. A task's field serves both kinds of
view, so the form is chosen per execution. An extension that has only the other form is bridged.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from inspect import isawaitable
from typing import Any

from asgiref.sync import async_to_sync, sync_to_async
from strawberry.extensions.field_extension import FieldExtension

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
            chained = partial(extension.resolve_async, chained)
        elif extension.supports_sync:
            chained = partial(_in_thread, extension, chained)
    answer = chained(source, info, **values)
    while isawaitable(answer):
        answer = await answer
    return answer


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
            chained = partial(extension.resolve, chained)
        elif extension.supports_async:
            chained = partial(_on_a_loop, extension, chained)
    return chained(source, info, **values)


async def _in_thread(
    extension: FieldExtension, next_: AsyncNext, source: Any, info: Any, **values: Any
) -> Any:
    """Calls an extension without `resolve_async`: its code may block."""

    async def on_the_loop(*args: Any, **kwargs: Any) -> Any:
        answer: Any = next_(*args, **kwargs)
        while isawaitable(answer):
            answer = await answer
        return answer

    resolve = sync_to_async(extension.resolve)
    return await resolve(async_to_sync(on_the_loop), source, info, **values)


def _on_a_loop(
    extension: FieldExtension, next_: Next, source: Any, info: Any, **values: Any
) -> Any:
    """Calls an extension without `resolve`; what it wraps stays in this thread."""
    # `async_to_sync` runs thread-sensitive functions in the thread that called it, and so in the
    # transaction that is open there.
    return async_to_sync(extension.resolve_async)(sync_to_async(next_), source, info, **values)
