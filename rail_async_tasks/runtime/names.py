"""Learns the names of tasks whose modules this process has not imported yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from uuid import UUID

from rail_async_tasks.ledger.port import LoopReads
from rail_async_tasks.registry import Registry


class NameFinder:
    """Asks the registry's finders for names that rows have. On the runtime's loop.

    Args:
        learnt: is called once more tasks are known.
    """

    def __init__(self, *, registry: Registry, reads: LoopReads, learnt: Callable[[], None]) -> None:
        self._registry = registry
        self._reads = reads
        self._learnt = learnt

    async def learn(self, names: Collection[str]) -> bool:
        """Returns whether one of the names has become known. Imports in a thread."""
        registry = self._registry
        unknown = set(names) - registry.names()
        if not unknown or not registry.finds_names:
            return False
        await asyncio.to_thread(lambda: [registry.find(name) for name in sorted(unknown)])
        if unknown.isdisjoint(registry.names()):
            return False
        self._learnt()
        return True

    async def learn_of(self, execution_ids: Collection[UUID]) -> bool:
        """As `learn`, with the names of these executions."""
        if not self._registry.finds_names:
            return False
        rows = await self._reads.reread(list(execution_ids))
        return await self.learn({row.name for row in rows if not row.is_final})
