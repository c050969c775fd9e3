"""Many starts of one task: all or none, in one transaction, the caller's if there is one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from asgiref.sync import sync_to_async

from rail_async_tasks.backends import get_backend
from rail_async_tasks.conf import TaskSettings
from rail_async_tasks.declaration.definition import TaskDefinition
from rail_async_tasks.errors import InvalidArguments
from rail_async_tasks.hooks import contained
from rail_async_tasks.hosting import process
from rail_async_tasks.hosting.submission import submission_for
from rail_async_tasks.ledger.records import NewExecution
from rail_async_tasks.runtime.admission import entries
from rail_async_tasks.runtime.tracing import tracer_for
from rail_async_tasks.service.request import (
    EnqueueOptions,
    enabled_settings,
    limits_of,
    new_execution,
)
from rail_async_tasks.snapshot import TaskSnapshot


def enqueue_many(
    definition: TaskDefinition, calls: Iterable[Mapping[str, Any]], options: EnqueueOptions
) -> list[TaskSnapshot]:
    """Stores an execution for each call; returns them in the order of the calls.

    Args:
        calls: the arguments of each start, by name.

    Raises:
        InvalidArguments, UnknownQueue, TasksDisabled, QueueFull, RateLimited, BackendUnavailable:
            nothing was stored.
        RuntimeError: called on an event loop, which it would block.
    """
    settings = enabled_settings()
    if asyncio._get_running_loop() is not None:
        raise RuntimeError(
            f"{definition.name}.enqueue_many() was called on an event loop, which it would block:"
            f" write `await {definition.name}.aenqueue_many(...)`."
        )
    return _store(_executions(definition, calls, options, settings), options, settings)


async def aenqueue_many(
    definition: TaskDefinition, calls: Iterable[Mapping[str, Any]], options: EnqueueOptions
) -> list[TaskSnapshot]:
    """`enqueue_many` for code on an event loop. Raises as that does, without RuntimeError."""
    settings = enabled_settings()
    news = _executions(definition, calls, options, settings)
    if news:
        await submission_for(get_backend(settings)).aprepare()
    return await sync_to_async(contained(_store))(news, options, settings)


def _executions(
    definition: TaskDefinition,
    calls: Iterable[Mapping[str, Any]],
    options: EnqueueOptions,
    settings: TaskSettings,
) -> list[NewExecution]:
    """Returns the rows to store. Raises InvalidArguments that names the call by its number."""
    news = []
    for number, arguments in enumerate(calls):
        if not isinstance(arguments, Mapping):
            raise InvalidArguments(
                f"Call {number} of enqueue_many() must be a dict of arguments, not"
                f" {type(arguments).__name__}: enqueue_many([{{...}}, {{...}}])."
            )
        try:
            encoded = definition.encode(arguments)
        except InvalidArguments as error:
            raise InvalidArguments(f"Call {number} of enqueue_many(): {error}") from error
        news.append(new_execution(definition, encoded, options, settings))
    return news


def _store(
    news: list[NewExecution], options: EnqueueOptions, settings: TaskSettings
) -> list[TaskSnapshot]:
    if not news:
        return []
    tracer = tracer_for(settings)
    if tracer is None:
        return _admit(news, options, settings)
    with tracer.sending(news) as sending:
        return _admit(sending.news, options, settings)


def _admit(
    news: Sequence[NewExecution], options: EnqueueOptions, settings: TaskSettings
) -> list[TaskSnapshot]:
    backend = get_backend(settings)
    owner_id = news[0].owner_id  # the options', and so the same in all
    limits = limits_of(owner_id, options, settings, inline=backend.inline)
    submission = submission_for(backend)
    if limits is None:
        return submission.submit_many(news)
    with entries(process.admission(), [new.id for new in news], limits):
        return submission.submit_many(news)
