"""Cancels and retries of tasks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias
from uuid import UUID

import msgspec

from rail_async_tasks.access import Viewer, may_change
from rail_async_tasks.backends import get_backend
from rail_async_tasks.conf import TaskSettings, get_settings
from rail_async_tasks.declaration.definition import TaskDefinition
from rail_async_tasks.errors import (
    AlreadyFinal,
    BackendUnavailable,
    InvalidArguments,
    NotFinal,
    TaskNotFound,
)
from rail_async_tasks.hosting import process
from rail_async_tasks.hosting.submission import submission_for
from rail_async_tasks.ledger.locks import delay_after
from rail_async_tasks.ledger.port import Ledger
from rail_async_tasks.ledger.records import NewExecution, RowLocked
from rail_async_tasks.registry import registry
from rail_async_tasks.runtime.announce import announcer_for
from rail_async_tasks.service.enqueuing import astore, store
from rail_async_tasks.service.read import freshest, on_ledger, read, seen_by
from rail_async_tasks.service.request import EnqueueOptions, enabled_settings, new_execution
from rail_async_tasks.snapshot import TaskSnapshot

# How long a cancel waits for another transaction that holds the task's row, in seconds.
LOCK_TIMEOUT: Final = 30.0

# Raises if the caller may not start this task with these arguments.
Permit: TypeAlias = Callable[[TaskDefinition, dict[str, Any]], Awaitable[None]]
SyncPermit: TypeAlias = Callable[[TaskDefinition, dict[str, Any]], None]


async def acancel(viewer: Viewer, task_id: str | UUID) -> TaskSnapshot:
    """Cancel a task: a waiting one never runs, a running one is asked to end.

    Raises:
        TaskNotFound: as `aget`, or the task is not the viewer's to change.
        AlreadyFinal: it has ended, perhaps a moment ago.
    """
    deadline = time.monotonic() + LOCK_TIMEOUT
    tries = 0
    while True:
        # Many calls may share the thread, so the wait for a lock is on the event loop.
        try:
            return await on_ledger(lambda ledger: _cancel(ledger, viewer, task_id, wait=False))
        except RowLocked as error:
            if time.monotonic() > deadline:
                raise BackendUnavailable(
                    f"The task can't be cancelled: another transaction has held its row for"
                    f" {LOCK_TIMEOUT:g} s. Try again once that has ended."
                ) from error
        tries += 1
        await asyncio.sleep(delay_after(tries))


def cancel(viewer: Viewer, task_id: str | UUID) -> TaskSnapshot:
    """`acancel` for code that is not async."""
    return _cancel(process.ledger(), viewer, task_id)


def _cancel(
    ledger: Ledger, viewer: Viewer, task_id: str | UUID, *, wait: bool = True
) -> TaskSnapshot:
    settings = get_settings()
    snapshot = _changeable(ledger, viewer, task_id)
    cancelled = ledger.cancel(snapshot.id, settings.result_ttl_seconds, _actor(viewer), wait=wait)
    if cancelled is None:
        raise TaskNotFound
    if not cancelled.changed:
        raise AlreadyFinal
    after = cancelled.snapshot
    # The answer must not show less progress than an earlier read: it is looked up before the
    # attempt is asked to end.
    fresh = freshest(after)
    ledger.on_commit(lambda: _announce_cancel(after, settings))
    if fresh is after:
        return after
    return msgspec.structs.replace(fresh, cancel_requested=True, updated_at=after.updated_at)


def _announce_cancel(snapshot: TaskSnapshot, settings: TaskSettings) -> None:
    try:
        announcer_for(settings, process.bus()).changed(snapshot)
    finally:  # a bus or an observer that cannot be made must not keep the body running
        if not snapshot.is_final:
            submission_for(get_backend(settings)).cancel(snapshot.id)


async def aretry(
    viewer: Viewer,
    task_id: str | UUID,
    *,
    arguments: Mapping[str, Any] | None = None,
    permit: Permit | None = None,
    address: str | None = None,
) -> TaskSnapshot:
    """Run a finished task again, as a new one with its id as `parent_id`.

    Args:
        arguments: Python values in place of the task's own arguments, all of them.
        permit: called before anything is stored; raises if the caller may not start the task.
        address: see `EnqueueOptions`.

    Raises:
        TaskNotFound: as `acancel`.
        NotFinal: it has not ended.
        InvalidArguments: its task does not exist any more, or takes other arguments now.
    """
    settings = enabled_settings()
    definition, values, new, options = await on_ledger(
        lambda ledger: _again(ledger, viewer, task_id, arguments, settings, address)
    )
    if permit is not None:
        await permit(definition, values)
    return await astore(new, options, settings)


def retry(
    viewer: Viewer,
    task_id: str | UUID,
    *,
    arguments: Mapping[str, Any] | None = None,
    permit: SyncPermit | None = None,
    address: str | None = None,
) -> TaskSnapshot:
    """`aretry` for code that is not async."""
    settings = enabled_settings()
    definition, values, new, options = _again(
        process.ledger(), viewer, task_id, arguments, settings, address
    )
    if permit is not None:
        permit(definition, values)
    return store(new, options, settings)


def _again(
    ledger: Ledger,
    viewer: Viewer,
    task_id: str | UUID,
    arguments: Mapping[str, Any] | None,
    settings: TaskSettings,
    address: str | None,
) -> tuple[TaskDefinition, dict[str, Any], NewExecution, EnqueueOptions]:
    before = _changeable(ledger, viewer, task_id)
    if not before.is_final:
        raise NotFinal
    definition = registry.find(before.name)
    if definition is None:
        raise InvalidArguments(f"The task {before.name} does not exist any more.")
    values, encoded = (
        _own_arguments(ledger, before.id, definition)
        if arguments is None
        else (dict(arguments), definition.encode(arguments))
    )
    options = EnqueueOptions(
        priority=before.priority,
        owner_id=before.owner_id,
        tenant_id=before.tenant_id,
        parent_id=before.id,
        actor=_actor(viewer),
        anonymous=viewer.is_anonymous and not viewer.is_system,
        address=address,
    )
    new = new_execution(definition, encoded, options, settings)
    # Not checked, as `EnqueueOptions.queue` is: the settings may not name that queue any more.
    # The language is that of the first start: the retry may be asked for by another user.
    language = ledger.language(before.id) if settings.carry_language else None
    new = msgspec.structs.replace(new, queue=before.queue, language=language)
    return definition, values, new, options


def _own_arguments(
    ledger: Ledger, execution_id: UUID, definition: TaskDefinition
) -> tuple[dict[str, Any], bytes]:
    """Returns a task's arguments: as Python values, and as JSON."""
    stored = ledger.arguments(execution_id)
    if stored is None:
        raise TaskNotFound
    plain = definition.plain(stored)
    values = definition.codec.decode(plain)  # refused here rather than by a failed row
    return values, plain.encode() if isinstance(plain, str) else plain


def _actor(viewer: Viewer) -> str:
    if viewer.user_id is not None:
        return viewer.user_id
    if not viewer.is_system:
        return "anonymous"
    return viewer.acts_as or "system"


def _changeable(ledger: Ledger, viewer: Viewer, task_id: str | UUID) -> TaskSnapshot:
    """Returns the task. Raises `TaskNotFound` also if the viewer may see but not change it."""
    snapshot = seen_by(viewer, read(ledger, task_id))
    if not may_change(viewer, snapshot, get_settings().anonymous_access):
        raise TaskNotFound
    return snapshot
