"""Renders a snapshot once for all readers to whom it looks the same."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from contextvars import copy_context
from typing import Final, Generic, TypeVar
from uuid import UUID
from weakref import WeakValueDictionary

from asgiref.sync import SyncToAsync

from rail_async_tasks.service.sizes import size_of
from rail_async_tasks.snapshot import TaskSnapshot

T = TypeVar("T", str, bytes)

# What is kept for readers that come later: the last rendering of so many tasks, with its snapshot,
# and of them so many bytes. The last one is kept whatever its size.
MOST_TASKS: Final = 128
MOST_BYTES: Final = 1024 * 1024


class Renderings(Generic[T]):
    """The texts of snapshots, for readers on one event loop who share `render`.

    `render` returns the text of a snapshot, or an awaitable of it. It is called once per snapshot,
    as long as the snapshot is the last of its task that was asked for. What it raises is not kept.
    """

    def __init__(self, render: Callable[[TaskSnapshot], T | Awaitable[T]]) -> None:
        self._render: Callable[[TaskSnapshot], T | Awaitable[T]] = render
        # By task, the one that was asked for last at the end.
        self._kept: OrderedDict[UUID, tuple[TaskSnapshot, T, int]] = OrderedDict()
        self._awaited: dict[UUID, tuple[TaskSnapshot, asyncio.Task[T]]] = {}
        self._bytes = 0
        self.count = 0  # of calls of `render`

    async def of(self, snapshot: TaskSnapshot) -> T:
        """Returns the text of the snapshot. Raises what `render` raises."""
        kept = self._kept.get(snapshot.id)
        if kept is not None and (kept[0] is snapshot or kept[0] == snapshot):
            return kept[1]
        awaited = self._awaited.get(snapshot.id)
        if awaited is not None and awaited[0] == snapshot:
            return await asyncio.shield(awaited[1])
        self.count += 1
        text = self._render(snapshot)
        if isinstance(text, str | bytes):
            self._keep(snapshot, text)
            return text
        # In a task of its own, without the thread of a request: the reader that came first may
        # leave before the others.
        context = copy_context()
        context.run(SyncToAsync.thread_sensitive_context.set, None)  # type: ignore[arg-type]
        task = asyncio.create_task(self._await(snapshot, text), context=context)
        self._awaited[snapshot.id] = (snapshot, task)
        return await asyncio.shield(task)

    async def _await(self, snapshot: TaskSnapshot, text: Awaitable[T]) -> T:
        try:
            found = await text
        finally:
            now = self._awaited.get(snapshot.id)
            if now is not None and now[0] is snapshot:
                del self._awaited[snapshot.id]
        self._keep(snapshot, found)
        return found

    def _keep(self, snapshot: TaskSnapshot, text: T) -> None:
        before = self._kept.pop(snapshot.id, None)
        if before is not None:
            self._bytes -= before[2]
        size = len(text) + size_of(snapshot)
        self._kept[snapshot.id] = (snapshot, text, size)
        self._bytes += size
        while len(self._kept) > 1 and (len(self._kept) > MOST_TASKS or self._bytes > MOST_BYTES):
            _, (_, _, oldest) = self._kept.popitem(last=False)
            self._bytes -= oldest


class SharedRenderings(Generic[T]):
    """The renderings that readers share now, by what makes texts differ: `key`.

    A reader holds its `Renderings`; they are gone with the last one.
    """

    def __init__(self) -> None:
        self._shared: WeakValueDictionary[Hashable, Renderings[T]] = WeakValueDictionary()

    def get(
        self, key: Hashable, render: Callable[[TaskSnapshot], T | Awaitable[T]]
    ) -> Renderings[T]:
        """Returns the renderings of the key, for this event loop; `render` makes the first one's.

        Whatever `render` uses apart from the snapshot must be part of the key.
        """
        whole = (asyncio.get_running_loop(), key)
        found = self._shared.get(whole)
        if found is None:
            found = self._shared[whole] = Renderings(render)
        return found
