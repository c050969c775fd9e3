"""Starts of tasks: admitted, stored, and handed to the runtime."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from asgiref.sync import sync_to_async

from rail_async_tasks.backends import get_backend
from rail_async_tasks.conf import TaskSettings
from rail_async_tasks.declaration.definition import TaskDefinition
from rail_async_tasks.hooks import contained
from rail_async_tasks.hosting import process
from rail_async_tasks.hosting.submission import submission_for
from rail_async_tasks.ledger.records import NewExecution
from rail_async_tasks.runtime.admission import Entry
from rail_async_tasks.runtime.tracing import tracer_for
from rail_async_tasks.service.read import on_ledger
from rail_async_tasks.service.request import (
    AS_DECLARED,
    EnqueueOptions,
    enabled_settings,
    limits_of,
    new_execution,
)
from rail_async_tasks.snapshot import TaskSnapshot


async def aenqueue(
    definition: TaskDefinition,
    arguments: Mapping[str, Any],
    options: EnqueueOptions = AS_DECLARED,
) -> TaskSnapshot:
    """Store an execution; returns it as it stands at its creation. It runs soon after.

    Raises:
        InvalidArguments, UnknownQueue, TasksDisabled, QueueFull, RateLimited, BackendUnavailable:
            nothing was stored.
    """
    settings = enabled_settings()
    new = new_execution(definition, definition.encode(arguments), options, settings)
    return await astore(new, options, settings)


def enqueue(
    definition: TaskDefinition,
    arguments: Mapping[str, Any],
    options: EnqueueOptions = AS_DECLARED,
) -> TaskSnapshot:
    """`aenqueue` for code that is not async. In a transaction the row is part of it.

    Raises:
        RuntimeError: called on an event loop, which it would block.
    """
    settings = enabled_settings()
    if asyncio._get_running_loop() is not None:
        raise RuntimeError(
            f"{definition.name}.enqueue() was called on an event loop, which it would block:"
            f" write `await {definition.name}.aenqueue(...)`."
        )
    new = new_execution(definition, definition.encode(arguments), options, settings)
    return store(new, options, settings)


async def astore(
    new: NewExecution, options: EnqueueOptions, settings: TaskSettings
) -> TaskSnapshot:
    """Admit the execution and submit it. Raises as `aenqueue`."""
    tracer = tracer_for(settings)
    if tracer is None:
        return await _astore(new, options, settings)
    with tracer.sending([new]) as sending:
        snapshot = await _astore(sending.news[0], options, settings)
        sending.stored(snapshot)
        return snapshot


async def _astore(
    new: NewExecution, options: EnqueueOptions, settings: TaskSettings
) -> TaskSnapshot:
    if process.is_short_lived(asyncio.get_running_loop()):
        # The caller of `async_to_sync` may be inside a transaction of its thread.
        return await sync_to_async(contained(_store))(new, options, settings)
    backend = get_backend(settings)
    limits = limits_of(new.owner_id, options, settings, inline=backend.inline)
    if limits is None:
        return await submission_for(backend).asubmit(new)
    admission = process.admission()
    with Entry(admission, (new.id,), limits) as entry:
        if admission.needs_ledger(limits):
            await on_ledger(lambda ledger: entry.check())
        else:
            entry.let_in()
        return await submission_for(backend).asubmit(new)


def store(new: NewExecution, options: EnqueueOptions, settings: TaskSettings) -> TaskSnapshot:
    """`astore` for code that is not async."""
    tracer = tracer_for(settings)
    if tracer is None:
        return _store(new, options, settings)
    with tracer.sending([new]) as sending:
        snapshot = _store(sending.news[0], options, settings)
        sending.stored(snapshot)
        return snapshot


def _store(new: NewExecution, options: EnqueueOptions, settings: TaskSettings) -> TaskSnapshot:
    backend = get_backend(settings)
    limits = limits_of(new.owner_id, options, settings, inline=backend.inline)
    submission = submission_for(backend)
    if limits is None:
        return submission.submit(new)
    with Entry(process.admission(), (new.id,), limits) as entry:
        entry.check()
        return submission.submit(new)
