"""Reads of tasks: one, or a page of those that a viewer may see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Final, TypeVar
from uuid import UUID

from asgiref.sync import sync_to_async

from rail_async_tasks.access import Viewer, may_see
from rail_async_tasks.conf import get_settings
from rail_async_tasks.errors import InvalidArguments, TaskNotFound
from rail_async_tasks.hooks import contained
from rail_async_tasks.hosting import process
from rail_async_tasks.ids import parse_id
from rail_async_tasks.ledger.port import Ledger
from rail_async_tasks.ledger.records import Page
from rail_async_tasks.per_loop import PerLoop
from rail_async_tasks.service.request import enabled_settings
from rail_async_tasks.service.sizes import must_be_counted, page_within
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.states import Status
from rail_async_tasks.text import is_storable
from rail_async_tasks.together import Together

T = TypeVar("T")

# The most tasks of one page.
MAX_PAGE: Final = 500


def _lock() -> AbstractAsyncContextManager[None]:
    """Returns a lock that does not hold its loop, as asyncio's does."""
    import anyio  # which a command that enqueues does without

    return anyio.Lock()


# Held while a page is read whose results the database must count.
_counted: Final = PerLoop(_lock)


async def aget(viewer: Viewer, task_id: str | UUID) -> TaskSnapshot:
    """Returns the task as it stands.

    Raises:
        TaskNotFound: there is none, the viewer may not see it, or `task_id` is no id.
    """
    return seen_by(viewer, await on_ledger(lambda ledger: read(ledger, task_id)))


async def aget_with_others(viewer: Viewer, execution_id: UUID) -> TaskSnapshot:
    """`aget`, in one query with others that read at the same time."""
    ledger = process.ledger()
    if not ledger.blocking:
        return seen_by(viewer, read(ledger, execution_id))
    enabled_settings()
    return seen_by(viewer, await _read_together(execution_id))


def _read_many(execution_ids: Sequence[UUID]) -> list[TaskSnapshot | None]:
    found = process.ledger().get_many(list(set(execution_ids)))
    by_id = {snapshot.id: freshest(snapshot) for snapshot in found}
    return [by_id.get(execution_id) for execution_id in execution_ids]


_read_together: Final = Together(_read_many)


def get(viewer: Viewer, task_id: str | UUID) -> TaskSnapshot:
    """`aget` for code that is not async."""
    return seen_by(viewer, read(process.ledger(), task_id))


async def alist(
    viewer: Viewer,
    *,
    status: str | None = None,
    name: str | None = None,
    queue: str | None = None,
    limit: int = 50,
    after: str | UUID | None = None,
    results: bool = True,
    at_most: int | None = None,
) -> list[TaskSnapshot]:
    """Returns the viewer's tasks, newest first; every task if they may see all.

    Args:
        limit: 1 to 500.
        after: the id of the last task of the page before.
        results: False leaves the results in the database; each task has None in its place.
        at_most: bytes of results.

    Raises:
        InvalidArguments: an unknown status, a limit out of range, a cursor that is no id.
        TooLarge: the results have more bytes than `at_most`; none was read.
    """
    page = _page(viewer, status, name, queue, limit, after, results)
    if page is None:
        return []
    # One at a time: a few callers with large results would keep the database from all others.
    turn = _counted.here() if must_be_counted(page, at_most) else nullcontext()
    async with turn:
        return await on_ledger(lambda ledger: all_freshest(page_within(ledger, page, at_most)))


def list_(
    viewer: Viewer,
    *,
    status: str | None = None,
    name: str | None = None,
    queue: str | None = None,
    limit: int = 50,
    after: str | UUID | None = None,
    results: bool = True,
    at_most: int | None = None,
) -> list[TaskSnapshot]:
    """`alist` for code that is not async."""
    page = _page(viewer, status, name, queue, limit, after, results)
    return [] if page is None else all_freshest(page_within(process.ledger(), page, at_most))


def _page(
    viewer: Viewer,
    status: str | None,
    name: str | None,
    queue: str | None,
    limit: int,
    after: str | UUID | None,
    results: bool,
) -> Page | None:
    """Returns the page to read; None for an anonymous viewer, who has no tasks to list."""
    enabled_settings()
    if status is not None and status not in set(Status):
        raise InvalidArguments(f"There is no status {status!r}. Known are {', '.join(Status)}.")
    if not 1 <= limit <= MAX_PAGE:
        raise InvalidArguments(f"limit must be a number from 1 to {MAX_PAGE}, not {limit}.")
    for key, text in (("name", name), ("queue", queue)):
        if text is not None and not is_storable(text):
            raise InvalidArguments(f"{key} contains a NUL or an unpaired surrogate; remove it.")
    cursor = None if after is None else parse_id(after)
    if after is not None and cursor is None:
        raise InvalidArguments("after must be the id of a task: the last one of the page before.")
    if viewer.is_anonymous and not viewer.sees_all:
        return None
    return Page(
        limit=limit,
        owner_id=viewer.user_id,
        tenant_id=viewer.tenant_id,
        everyone=viewer.sees_all,
        status=status,
        name=name,
        queue=queue,
        after=cursor,
        results=results,
    )


def read(ledger: Ledger, task_id: str | UUID) -> TaskSnapshot | None:
    """Returns the task as it stands, if there is one of that id."""
    enabled_settings()
    execution_id = parse_id(task_id)
    snapshot = None if execution_id is None else ledger.get(execution_id)
    return None if snapshot is None else freshest(snapshot)


def seen_by(viewer: Viewer, snapshot: TaskSnapshot | None) -> TaskSnapshot:
    """Returns the task. Raises `TaskNotFound` if there is none that the viewer may see."""
    if snapshot is None or not may_see(viewer, snapshot, get_settings().anonymous_access):
        raise TaskNotFound
    return snapshot


def freshest(snapshot: TaskSnapshot) -> TaskSnapshot:
    """Returns the snapshot, or an attempt's newer one: progress is stored twice a second."""
    runtime = process.current()
    attempt = None if runtime is None else runtime.attempts.get(snapshot.id)
    if attempt is not None and attempt.snapshot.version > snapshot.version:
        return attempt.snapshot
    return snapshot


def all_freshest(snapshots: list[TaskSnapshot]) -> list[TaskSnapshot]:
    """Returns `freshest` of each."""
    return [freshest(snapshot) for snapshot in snapshots]


async def on_ledger(call: Callable[[Ledger], T]) -> T:
    """Call with the ledger, in a thread if it blocks."""
    ledger = process.ledger()
    if not ledger.blocking:
        return call(ledger)
    return await sync_to_async(contained(call))(
        ledger
    )  # it may call a database router of the project's
