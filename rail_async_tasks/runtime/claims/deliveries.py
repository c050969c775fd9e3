"""Deliveries: claims the ids that a broker brings to this process, and runs their next attempt.

An id that is not claimable is dropped: it came twice, was cancelled, or runs elsewhere. An id of a
paused queue is handed back: its row is marked as not sent, and is sent after the pause. An id whose
row another transaction has locked is none of these yet: it is looked at again, at growing
intervals, until the lock is gone. One for which the rate of its queue has no token is looked at
again when there is one, or handed back where that is not soon. The ids that come in during a claim
are claimed together by the next one.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Collection, Mapping
from types import MappingProxyType
from uuid import UUID

import msgspec

from rail_async_tasks.conf.model import RateLimit
from rail_async_tasks.ledger.dispatch_records import DeliveryClaim
from rail_async_tasks.ledger.locks import FIRST_DELAY, delay_after
from rail_async_tasks.ledger.records import Claimed
from rail_async_tasks.ledger.upkeep import Dispatches
from rail_async_tasks.runtime.claims.pauses import Pauses
from rail_async_tasks.runtime.state import RuntimeState
from rail_async_tasks.safe_logging import get_logger

logger = get_logger("rail_async_tasks.runtime")

# How often locked rows are released to other processes at the end of this one. It takes about a
# second; what is left is sent again later.
RELEASES = 7

# An id waits here so many seconds for a token of its queue's rate. It holds a place of its worker
# meanwhile, which tasks of other queues could have.
LONGEST_WAIT = 0.25


class Delivery(msgspec.Struct, frozen=True):
    """An id that was brought. Both are called on the loop, and must not raise.

    Attributes:
        over: is called with whether the execution's next attempt ran here, once its outcome is
            stored.
        freed: is called when its body has ended, and has left its slot; not where nothing ran.
    """

    over: Callable[[bool], None]
    freed: Callable[[], None] | None = None


class Deliveries:
    """Runs on the runtime's loop, like all its callers.

    Args:
        names: returns the tasks that are known here.
        start: starts a claimed execution, which was claimed under that runtime id.
        suspects_running: returns whether an execution runs here that may have crashed a process.
        max_crashes: executions that were lost with so many processes are suspects.
        rates: the rates of the queues that have one.
        learn: imports the tasks of executions that were not claimable; returns whether one of them
            has become known here.
    """

    def __init__(
        self,
        *,
        dispatches: Dispatches,
        state: RuntimeState,
        names: Callable[[], Collection[str]],
        start: Callable[[Claimed, UUID], None],
        pauses: Pauses,
        suspects_running: Callable[[], bool],
        max_crashes: int,
        rates: Mapping[str, RateLimit] = MappingProxyType({}),
        learn: Callable[[Collection[UUID]], Awaitable[bool]] | None = None,
    ) -> None:
        self._dispatches = dispatches
        self._state = state
        self._names = names
        self._start_attempt = start
        self._pauses = pauses
        self._suspects_running = suspects_running
        self._crashes = max(max_crashes, 1)
        self._rates = rates
        self._learn = learn
        self._loop = asyncio.get_running_loop()
        self._arrived: dict[UUID, list[Delivery]] = {}
        self._postponed: dict[UUID, list[Delivery]] = {}
        # By id and token: ids that are claimed together share their token.
        self._ends: dict[tuple[UUID, UUID], Delivery] = {}
        # Ids that wait for another transaction or a token, and how often each was looked at for
        # the former.
        self._locked: dict[UUID, list[Delivery]] = {}
        self._looks: dict[UUID, int] = {}
        self._claiming: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self.dropped = 0

    async def attempt(self, execution_id: UUID) -> bool:
        """Runs the execution's next attempt; returns when its outcome is stored.

        False where it is not this process's to run. Cancelling the caller cancels nothing.
        """
        end: asyncio.Future[bool] = self._loop.create_future()

        def over(ran: bool) -> None:
            if not end.done():  # else the caller was cancelled
                end.set_result(ran)

        self.bring(execution_id, Delivery(over))
        return await end

    def bring(self, execution_id: UUID, delivery: Delivery) -> None:
        """`attempt` as a plain call, for workers that bring many ids at once."""
        if execution_id in self._locked:
            self._locked[execution_id].append(delivery)
        else:
            self._arrive(execution_id, [delivery])

    def notice(self) -> None:
        """Goes on after a lease has begun; at the drain, also looks at locked ids at once."""
        self._changed.set()
        if self._state.draining:
            for execution_id in [*self._locked]:
                self._look_again(execution_id)

    def slot_freed(self, execution_id: UUID, token: UUID) -> None:
        """The body has ended; its outcome is on the way to the ledger."""
        delivery = self._ends.get((execution_id, token))
        if delivery is not None and delivery.freed is not None:
            delivery.freed()

    def settled(self, execution_id: UUID, token: UUID) -> None:
        """Answers the caller of `attempt`: the outcome is stored, or never will be."""
        end = self._ends.pop((execution_id, token), None)
        if end is not None:
            _resolve([end], True)
        if self._postponed and not self._suspects_running():
            postponed, self._postponed = self._postponed, {}
            for waiting, ends in postponed.items():
                self._arrive(waiting, ends)

    def _arrive(self, execution_id: UUID, ends: list[Delivery]) -> None:
        self._arrived.setdefault(execution_id, []).extend(ends)
        if self._claiming is None or self._claiming.done():
            # A clean context: attempts must not inherit their broker's.
            self._claiming = self._loop.create_task(
                self._claim_arrived(), context=contextvars.Context()
            )

    async def _claim_arrived(self) -> None:
        await asyncio.sleep(0)  # others of this moment are claimed with it
        state = self._state
        while self._arrived:
            while not state.holding and not state.draining:
                self._changed.clear()
                await self._changed.wait()
            arrived, self._arrived = self._arrived, {}
            if state.draining:
                await self._refuse(arrived)
                continue
            await self._claim(arrived)

    async def _claim(self, arrived: dict[UUID, list[Delivery]]) -> None:
        try:
            await self._pauses.up_to_date()
            held_by = self._state.id
            brought = await self._dispatches.claim(
                DeliveryClaim(
                    ids=arrived.keys(),
                    names=self._names(),
                    runtime_id=held_by,
                    crashes=self._crashes,
                    suspects=not self._suspects_running(),
                    paused=self._pauses.queues,
                    rates=self._rates,
                )
            )
        except Exception:
            logger.exception("Tasks that a broker has brought can't be claimed")
            self._end_all(arrived)
            return
        for claimed in brought.claimed:
            self._looks.pop(claimed.snapshot.id, None)
            self._start(claimed, held_by, arrived.pop(claimed.snapshot.id))
        if brought.paused:
            await self._hand_back({it: arrived.pop(it) for it in brought.paused & arrived.keys()})
        if brought.early:
            await self._wait_for_tokens(brought.early, arrived)
        refused = arrived.keys() - brought.locked - brought.postponed
        if refused and await self._has_learnt(refused):
            await self._claim({execution_id: arrived.pop(execution_id) for execution_id in refused})
        for execution_id, ends in arrived.items():
            if execution_id in brought.locked:
                self._wait_for_lock(execution_id, ends)
                continue
            self._looks.pop(execution_id, None)
            if execution_id in brought.postponed:
                self._postponed.setdefault(execution_id, []).extend(ends)
            else:
                self.dropped += len(ends)
                _resolve(ends, False)

    async def _has_learnt(self, execution_ids: Collection[UUID]) -> bool:
        """Returns whether tasks of these executions are known that were not a moment ago."""
        if self._learn is None:
            return False
        try:
            return await self._learn(execution_ids)
        except Exception:  # the ids are dropped, and sent again later
            logger.exception("The names of delivered tasks can't be read")
            return False

    def _wait_for_lock(self, execution_id: UUID, ends: list[Delivery]) -> None:
        if execution_id in self._locked:  # brought once more during the claim
            self._locked[execution_id] += ends
            return
        self._locked[execution_id] = ends
        looks = self._looks[execution_id] = self._looks.get(execution_id, 0) + 1
        self._loop.call_later(delay_after(looks), self._look_again, execution_id)

    async def _wait_for_tokens(
        self, early: Mapping[UUID, float], arrived: dict[UUID, list[Delivery]]
    ) -> None:
        """Takes early ids out of `arrived`: they are looked at again soon, or handed back."""
        back: dict[UUID, list[Delivery]] = {}
        for execution_id in early.keys() & arrived.keys():
            ends, seconds = arrived.pop(execution_id), early[execution_id]
            if seconds > LONGEST_WAIT:
                back[execution_id] = ends
            elif execution_id in self._locked:  # brought once more during the claim
                self._locked[execution_id] += ends
            else:
                self._locked[execution_id] = ends
                self._loop.call_later(max(seconds, FIRST_DELAY), self._look_again, execution_id)
        if back:
            await self._hand_back(back)

    def _look_again(self, execution_id: UUID) -> None:
        ends = self._locked.pop(execution_id, None)
        if ends is not None:
            self._arrive(execution_id, ends)

    def _start(self, claimed: Claimed, held_by: UUID, ends: list[Delivery]) -> None:
        end, *twice = ends
        self.dropped += len(twice)
        _resolve(twice, False)
        self._ends[claimed.snapshot.id, claimed.token] = end
        try:
            self._start_attempt(claimed, held_by)
        except Exception:  # its neighbours start all the same; `upkeep.unknown` hands it back
            logger.exception("Task %s was claimed and did not start", claimed.snapshot.id)
            self.settled(claimed.snapshot.id, claimed.token)

    async def _hand_back(self, stopped: dict[UUID, list[Delivery]]) -> None:
        """Marks ids of stopped queues as not sent; a locked one is looked at again later."""
        try:
            locked = await self._dispatches.release(stopped)
        except Exception:  # they are sent again once they are overdue
            logger.exception(
                "Tasks of paused queues, or of such at their rate, can't be handed back"
            )
            locked = set()
        for execution_id in locked:
            self._wait_for_lock(execution_id, stopped.pop(execution_id))
        self._end_all(stopped)

    async def _refuse(self, arrived: dict[UUID, list[Delivery]]) -> None:
        """Releases them to other processes, as this one is ending."""
        try:
            left = set(arrived)
            for looks in range(1, RELEASES + 1):
                left = await self._dispatches.release(left)
                if not left:
                    break
                await asyncio.sleep(delay_after(looks))
        finally:
            self._end_all(arrived)

    def _end_all(self, arrived: dict[UUID, list[Delivery]]) -> None:
        """Answers the callers: none of the ids runs here."""
        for execution_id, ends in arrived.items():
            self._looks.pop(execution_id, None)
            _resolve(ends, False)


def _resolve(ends: list[Delivery], ran: bool) -> None:
    for delivery in ends:
        delivery.over(ran)
