"""Streams of a task's changes, and of all the changes of a viewer's tasks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator
from typing import Final
from uuid import UUID

from rail_async_tasks.access import Viewer
from rail_async_tasks.errors import BackendUnavailable, TaskNotFound
from rail_async_tasks.hosting import process, server
from rail_async_tasks.ids import parse_id
from rail_async_tasks.ledger.records import Page
from rail_async_tasks.service.read import MAX_PAGE, aget_with_others, all_freshest, on_ledger
from rail_async_tasks.service.request import MAX_INT, enabled_settings
from rail_async_tasks.snapshot import TaskSnapshot, owner_topic, task_topic

# How far back (seconds) a new watcher of an owner's tasks reads which ones have ended, so as not to
# yield them. Further than a re-read looks back, and longer than the news of an end take to arrive.
PASSED_OVER: Final = 300.0


async def watch(viewer: Viewer, task_id: str | UUID) -> AsyncGenerator[TaskSnapshot, None]:
    """Yields the task as it stands, then its changes in order, and ends after the final one.

    `(seq, step)` only grows; a slow reader may miss a change in between, never the final one.

    Raises:
        TaskNotFound: as `aget`, before anything is yielded.
    """
    enabled_settings()
    _refuse_if_going_away()
    execution_id = parse_id(task_id)
    if execution_id is None:
        raise TaskNotFound
    # Subscribed before the row is read: what changes in between is not lost.
    async with process.bus().subscribe(task_topic(execution_id)) as mailbox:
        snapshot = await aget_with_others(viewer, execution_id)
        yield snapshot
        if snapshot.is_final:
            return
        version = snapshot.version
        async for snapshot in mailbox:
            if snapshot.version <= version:
                continue
            version = snapshot.version
            yield snapshot
            if snapshot.is_final:
                return


async def watch_mine(viewer: Viewer) -> AsyncGenerator[TaskSnapshot, None]:
    """Yields the viewer's unfinished tasks, oldest first, then every change of a task of theirs.

    A task that ended before the call is never yielded.
    """
    enabled_settings()
    _refuse_if_going_away()
    owner_id = viewer.user_id
    if owner_id is None:
        return
    seen = SeenVersions()
    # The periodic re-read for all watchers may bring what ended before this one came. Read before
    # the bus is joined: an end after this read is yielded, be it by an event or by a re-read.
    seen.pass_over(
        await on_ledger(lambda ledger: ledger.ended_lately(owner_id, viewer.tenant_id, PASSED_OVER))
    )
    async with process.bus().subscribe(owner_topic(owner_id, viewer.tenant_id)) as mailbox:
        for snapshot in await _unfinished(viewer):
            if seen.advances(snapshot):
                yield snapshot
        async for snapshot in mailbox:
            if seen.advances(snapshot):
                yield snapshot


def _refuse_if_going_away() -> None:
    """Raises `BackendUnavailable` in a drain: a new stream would hold up the process's end."""
    if server.is_going_away():
        raise BackendUnavailable("This process is shutting down. Try again.")


async def _unfinished(viewer: Viewer) -> list[TaskSnapshot]:
    """Returns the newest unfinished tasks of the viewer, oldest first."""
    page = Page(
        limit=MAX_PAGE, owner_id=viewer.user_id, tenant_id=viewer.tenant_id, unfinished=True
    )
    newest_first = await on_ledger(lambda ledger: all_freshest(ledger.page(page)))
    return newest_first[::-1]


class SeenVersions:
    """The last version that a watcher has seen of each task, for a bounded number of tasks."""

    MAX = 10_000

    def __init__(self) -> None:
        self._versions: OrderedDict[UUID, tuple[int, int]] = OrderedDict()

    def pass_over(self, ended: list[UUID]) -> None:
        """Mark these tasks as ended: `advances` returns False for all their versions."""
        self._versions.update(dict.fromkeys(ended, (MAX_INT, MAX_INT)))

    def advances(self, snapshot: TaskSnapshot) -> bool:
        """Returns whether the snapshot is newer than the last of its task; stores its version."""
        if snapshot.version <= self._versions.get(snapshot.id, (0, 0)):
            return False
        self._versions[snapshot.id] = snapshot.version
        self._versions.move_to_end(snapshot.id)
        if len(self._versions) > self.MAX:
            self._versions.popitem(last=False)
        return True
