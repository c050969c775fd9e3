"""Finds rows that no process takes care of: unknown to their holder, or under an unknown name."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection
from uuid import UUID

from rail_async_tasks.ledger.records import Held
from rail_async_tasks.ledger.upkeep import Recoveries
from rail_async_tasks.runtime.state import RuntimeState


class UnknownRows:
    """Hands back rows that this process holds, by the ledger, and that do not run here.

    Args:
        running: ids of the executions that run here.
        disown: hands such a row back.
    """

    def __init__(
        self,
        *,
        recoveries: Recoveries,
        state: RuntimeState,
        running: Collection[UUID],
        disown: Callable[[Held], None],
    ) -> None:
        self._recoveries = recoveries
        self._state = state
        self._running = running
        self._disown = disown
        self._seen: set[UUID] = set()  # by the last read

    async def read(self) -> None:
        """Disowns rows that were unknown at the last read too.

        One read may come between a commit and its answer.
        """
        if not self._state.holding:
            return
        held = await self._recoveries.held_by(self._state.id)
        unknown = {row.id: row for row in held if row.id not in self._running}
        for execution_id in unknown.keys() & self._seen:
            self._disown(unknown[execution_id])
        self._seen = unknown.keys() - self._seen


class UnknownNames:
    """Fails executions that wait under a name that no live process has known for some time.

    Args:
        known: returns the names of the tasks that are known here.
        learn: imports the tasks of these names, where it can.
        fail: fails the executions that wait under a name.
        seconds: the setting `unknown_task_seconds`.
        clock: returns seconds that never go back.
    """

    def __init__(
        self,
        *,
        recoveries: Recoveries,
        known: Callable[[], Collection[str]],
        learn: Callable[[Collection[str]], Awaitable[bool]],
        fail: Callable[[str], Awaitable[None]],
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._recoveries = recoveries
        self._known = known
        self._learn = learn
        self._fail = fail
        self._seconds = seconds
        self._clock = clock
        self._since: dict[str, float] = {}  # by name: when it was first found unknown

    async def read(self) -> None:
        now = self._clock()
        unknown = await self._recoveries.unknown_names(self._known())
        if unknown and await self._learn(unknown):
            unknown -= set(self._known())
        self._since = {name: self._since.get(name, now) for name in unknown}
        for name, since in self._since.items():
            if now - since >= self._seconds:
                await self._fail(name)
