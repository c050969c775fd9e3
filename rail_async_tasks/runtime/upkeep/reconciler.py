"""The sweeper: looks at the ledger that no message can be relied on to trigger."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from uuid import UUID

from rail_async_tasks.backoff import Backoff
from rail_async_tasks.runtime.failures import INLINE_HOLD
from rail_async_tasks.runtime.upkeep.lease import boottime
from rail_async_tasks.runtime.upkeep.supervision import is_of_row
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.snapshot import owner_of, task_id_of
from rail_async_tasks.text import describe

if TYPE_CHECKING:
    from rail_async_tasks.runtime.runtime import Runtime

logger = get_logger("rail_async_tasks.runtime")

# A cancel that was asked for in another process is heeded within this time, in seconds.
INTERVAL = 1.0
# Between two looks for cancels that other processes have told of, in seconds.
PAUSE = 0.1
# Every so many looks: watched executions that run elsewhere, queues that no setting names, rows
# that are held, names that nobody knows, times of a clock that was ahead.
WATCHED_EVERY = 2
QUEUES_EVERY = 30
HELD_EVERY = 5
NAMES_EVERY = 10
TIMES_EVERY = 60
# By how much (seconds) the looks at an owner's changes overlap: a change shows only with its
# commit, and a look may wait for its turn. A watcher sees none of it twice.
OVERLAP = 5.0


class Sweeper:
    """Finds cancels of what runs here, changes made elsewhere, and queues nobody has declared."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._stop = asyncio.Event()
        self._cancels_told = asyncio.Event()
        self._owners_read_at = boottime()  # others go on while this machine sleeps
        # By look: its failures in a row.
        self._failed_looks: dict[str, Backoff] = {}
        self._unknown_rows: set[UUID] = set()
        self._unknown_names: dict[str, float] = {}

    def stop(self) -> None:
        self._stop.set()
        self._cancels_told.set()

    def look_for_cancels(self) -> None:
        """Looks for cancels of what runs here before the next look is due. On the loop."""
        self._cancels_told.set()

    async def find_told_cancels(self) -> None:
        """The looks that were asked for, one after the other, with a pause after each."""
        while True:
            await self._cancels_told.wait()
            if self._stop.is_set():
                return
            self._cancels_told.clear()
            await self._safely("cancels", self._find_cancels)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), PAUSE)

    async def run(self) -> None:
        looks = 0
        look: asyncio.Task[None] | None = None
        while not self._stop.is_set():
            try:
                self._runtime.give_up_waiting()
            finally:
                self._runtime.check_lease()
            # A look waits for as long as the database is away; the callers above must not.
            if look is None or look.done():
                look = asyncio.create_task(self._look(looks))
                looks += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), INTERVAL)
        if look is not None:
            look.cancel()

    async def _look(self, looks: int) -> None:
        """Each look by itself: one that fails keeps none of the others from being taken."""
        if self._runtime.attempts:
            await self._safely("cancels", self._find_cancels)
        if looks % WATCHED_EVERY == 0:
            await self._safely("watched tasks", self._reread_watched)
            await self._safely("watched owners", self._reread_owners)
        if looks % HELD_EVERY == 0:
            await self._safely("running tasks", self._find_unknown_rows)
        if looks % QUEUES_EVERY == 0:
            await self._safely("queues", self._find_queues)
        if looks % NAMES_EVERY == 0:
            await self._safely("unknown names", self._find_unknown_names)
            await self._safely("failure callbacks", self._runtime.callbacks.find_overdue)
        if looks % TIMES_EVERY == 0:
            await self._safely("wrong times", self._correct_times)

    async def _safely(self, what: str, look: Callable[[], Awaitable[None]]) -> None:
        """Takes a look. A failure is logged, and it is taken again when its turn comes."""
        backoff = self._failed_looks.get(what)
        try:
            await look()
        except Exception as error:
            if backoff is None:
                backoff = self._failed_looks[what] = Backoff(
                    f"A look at the ledger failed, for {what}", "It is taken again", log=logger
                )
            backoff.failed(describe(error), error, expected=not is_of_row(error))
        else:
            if backoff is not None:
                backoff.recovered()

    async def _find_cancels(self) -> None:
        for execution_id in await self._runtime.ledger.cancels_for(self._runtime.id):
            self._runtime.cancel(execution_id)

    async def _reread_watched(self) -> None:
        """Tells watchers here of changes that no event told; one query for all of them."""
        bus = self._runtime.bus
        watched = {task_id_of(topic) for topic in bus.watched()}
        if self._runtime.settings.emit_subscriptions:
            watched -= self._runtime.attempts.keys()  # their events are newer than their rows
        wanted = [execution_id for execution_id in watched if execution_id is not None]
        if not wanted:
            return
        found = await self._runtime.ledger.reread(wanted)
        for snapshot in found:
            bus.deliver(snapshot)
        for gone in set(wanted) - {snapshot.id for snapshot in found}:
            bus.end(gone)

    async def _reread_owners(self) -> None:
        """The same for watchers of all that an owner does."""
        began = boottime()
        owners = {owner_of(topic) for topic in self._runtime.bus.watched()} - {None}
        since = self._owners_read_at if owners else began
        wanted = [owner_id for owner_id in owners if owner_id is not None]
        if wanted:
            seconds = began - since + OVERLAP
            for snapshot in await self._runtime.ledger.changed_lately(wanted, seconds):
                self._runtime.bus.deliver(snapshot)
        self._owners_read_at = began

    async def _find_unknown_rows(self) -> None:
        """Hands back what the database says runs here and nobody here knows, at a second look.

        The first may come between a commit and its answer.
        """
        runtime = self._runtime
        if not runtime.holding:
            return
        held = await runtime.ledger.held_by(runtime.id)
        unknown = {row.id: row for row in held if row.id not in runtime.attempts}
        for execution_id in unknown.keys() & self._unknown_rows:
            runtime.disown(unknown[execution_id])
        self._unknown_rows = unknown.keys() - self._unknown_rows

    async def _find_unknown_names(self) -> None:
        """Fails what waits under a name that no live process has known for too long."""
        runtime = self._runtime
        now = time.monotonic()
        unknown = await runtime.ledger.unknown_names(runtime.registry.names())
        self._unknown_names = {name: self._unknown_names.get(name, now) for name in unknown}
        patience = runtime.settings.unknown_task_seconds
        for name, since in self._unknown_names.items():
            if now - since >= patience:
                await runtime.fail_unknown(name)

    async def _find_queues(self) -> None:
        for queue in await self._runtime.ledger.queues():
            self._runtime.slots.know(queue)

    async def _correct_times(self) -> None:
        ttl = self._runtime.settings.result_ttl_seconds
        count = await self._runtime.ledger.correct_times(ttl, INLINE_HOLD)
        if count:
            logger.warning(
                "%d rows had times from the future: the clock of the database (on SQLite, of this"
                " machine) was ahead. They are corrected; see that it is kept by NTP.", count,
            )  # fmt: skip
