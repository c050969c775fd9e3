"""One service at a time: on the memory ledger, with a clock that a test moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import UUID

import pytest

from rail_async_tasks.declaration.definition import define
from rail_async_tasks.ledger.memory.ledger import MemoryLedger
from rail_async_tasks.ledger.records import Claimed
from rail_async_tasks.queue_limits import QueueLimits
from rail_async_tasks.registry import Registry
from rail_async_tasks.runtime.claims.local_dispatcher import (
    ClaimsDue,
    LocalDispatcher,
    LocalTimings,
)
from rail_async_tasks.runtime.claims.pauses import Pauses
from rail_async_tasks.runtime.claims.slots import Slots
from rail_async_tasks.runtime.state import RuntimeState
from tests.support.clock import FakeClock


async def echo(n: int) -> int:
    """A task that the registry of these tests knows."""
    return n


@pytest.fixture
async def ledger(clock: FakeClock) -> MemoryLedger:
    """Rows in memory, by the test's clock."""
    return MemoryLedger(now=clock.now)


@pytest.fixture
def registry() -> Registry:
    """Knows the task `echo`."""
    registry = Registry()
    registry.register(define(echo, name="echo"))
    return registry


@pytest.fixture
def state() -> RuntimeState:
    """A runtime that may hold executions."""
    state = RuntimeState()
    state.holding = True
    return state


@pytest.fixture
def slots() -> Slots:
    """Two slots for coroutines, one for threads, and one queue."""
    return Slots(coroutines=2, threads=1, total=None, queues=[QueueLimits("default")])


@pytest.fixture
async def pauses(ledger: MemoryLedger, slots: Slots, clock: FakeClock) -> Pauses:
    """The pauses of the ledger, which reach the slots."""
    return Pauses(reads=ledger, hold=slots.hold)


class Started:
    """Keeps what a dispatcher starts; takes a slot for each, as an attempt does."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self.claims: list[Claimed] = []
        self.held_by: list[UUID] = []
        self.errors: list[Exception] = []

    def __call__(self, claimed: Claimed, held_by: UUID) -> None:
        self.held_by.append(held_by)
        if self.errors:
            raise self.errors.pop()
        self._slots.take(claimed.snapshot.queue, False)
        self.claims.append(claimed)

    @property
    def ids(self) -> list[UUID]:
        return [it.snapshot.id for it in self.claims]


@pytest.fixture
def started(slots: Slots) -> Started:
    """The attempts that a dispatcher has started."""
    return Started(slots)


# --- the local dispatcher -------------------------------------------------------------------------


class Announced:
    """Counts how often others were told that rows are left."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


@pytest.fixture
def announced() -> Announced:
    """What the local dispatcher has told other processes."""
    return Announced()


@pytest.fixture
async def due(
    slots: Slots, registry: Registry, state: RuntimeState, pauses: Pauses, announced: Announced,
    clock: FakeClock,
) -> ClaimsDue:  # fmt: skip
    """The rows that wait for the local dispatcher."""
    return ClaimsDue(
        slots=slots, registry=registry, state=state, pauses=pauses, rows_left=announced
    )


@pytest.fixture
async def dispatcher(
    ledger: MemoryLedger, registry: Registry, slots: Slots, state: RuntimeState, due: ClaimsDue,
    started: Started, pauses: Pauses,
) -> LocalDispatcher:  # fmt: skip
    """A local dispatcher, which pauses for 2 to 4 s after a claim that failed."""
    return LocalDispatcher(
        ledger=ledger, registry=registry, slots=slots, state=state, due=due, start=started,
        pauses=pauses, suspects_running=lambda: False, running_by_owner=lambda queue: {},
        max_crashes=3, timings=LocalTimings(failure_pause=4.0),
    )  # fmt: skip


Run = Callable[[], Awaitable[None]]


@pytest.fixture
async def run(
    dispatcher: LocalDispatcher, due: ClaimsDue, state: RuntimeState, clock: FakeClock
) -> AsyncIterator[Run]:
    """Starts the local dispatcher; ends it by a drain."""
    tasks: list[asyncio.Task[None]] = []

    async def start() -> None:
        tasks.append(asyncio.create_task(dispatcher.run()))
        await clock.settle()

    yield start
    state.draining = True
    due.wake()
    await asyncio.gather(*tasks)
