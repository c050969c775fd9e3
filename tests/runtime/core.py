"""Collaborators of the core on the memory ledger: each test builds its service on them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID

from rail_async_tasks.conf import TaskSettings
from rail_async_tasks.declaration.definition import TaskDefinition, define
from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.memory.ledger import MemoryLedger
from rail_async_tasks.ledger.records import Claimed, Created, NewExecution, Outcome, Settled
from rail_async_tasks.queue_limits import QueueLimits
from rail_async_tasks.registry import Registry
from rail_async_tasks.runtime.admission import Admission
from rail_async_tasks.runtime.announce import Announcer
from rail_async_tasks.runtime.attempts.attempts import Attempts
from rail_async_tasks.runtime.attempts.progress_saver import ProgressSaver
from rail_async_tasks.runtime.attempts.running import Running
from rail_async_tasks.runtime.attempts.settlements import Settlements
from rail_async_tasks.runtime.attempts.waiters import Look, Waiter, Waiters
from rail_async_tasks.runtime.claims.local_dispatcher import ClaimsDue
from rail_async_tasks.runtime.claims.slots import Slots
from rail_async_tasks.runtime.creations import Creations
from rail_async_tasks.runtime.failure_log import FailureLog
from rail_async_tasks.runtime.observers import Observers
from rail_async_tasks.runtime.outstanding import Outstanding
from rail_async_tasks.runtime.state import RuntimeState
from rail_async_tasks.snapshot import TaskSnapshot
from tests.runtime.fakes import ReadPauses
from tests.support.clock import FakeClock
from tests.support.recorder import Recorder


class RecordingBus:
    """Keeps what is published; raises instead while it is broken."""

    def __init__(self) -> None:
        self.published: list[TaskSnapshot] = []
        self.broken = False

    def publish(self, snapshot: TaskSnapshot) -> None:
        if self.broken:
            raise RuntimeError("the bus is broken")
        self.published.append(snapshot)

    @property
    def statuses(self) -> list[str]:
        return [str(it.status) for it in self.published]


class SlowLedger(MemoryLedger):
    """Answers creations and outcomes when the test says so, with what the test says."""

    def __init__(self, now: Callable[[], Any]) -> None:
        super().__init__(now=now)
        self.outcomes: list[tuple[Outcome, Callable[[Settled | BaseException | None], None]]] = []
        self.creations: list[tuple[NewExecution, Callable[[Created | BaseException], None]]] = []

    def settle(
        self, outcome: Outcome, done: Callable[[Settled | BaseException | None], None]
    ) -> None:
        self.outcomes.append((outcome, done))

    def create(self, new: NewExecution, done: Callable[[Created | BaseException], None]) -> None:
        self.creations.append((new, done))

    def answer(self, error: BaseException | None = None) -> None:
        """Answers the oldest outcome: with the error, or by storing it."""
        outcome, done = self.outcomes.pop(0)
        done(self.settle_here(outcome) if error is None else error)

    def answer_creation(self, error: BaseException | None = None) -> None:
        """Answers the oldest creation: with the error, or by storing it."""
        new, done = self.creations.pop(0)
        done(self.create_here(new) if error is None else error)


class Core:
    """What the services of one runtime share: two slots for coroutines, one for threads."""

    def __init__(
        self, clock: FakeClock, ledger: MemoryLedger | None = None, **settings: Any
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.settings = TaskSettings(**settings)
        self.ledger = MemoryLedger(now=clock.now) if ledger is None else ledger
        self.registry = Registry()
        self.state = RuntimeState()
        self.state.holding = True
        self.slots = Slots(2, 1, None, [QueueLimits("default")])
        # Polls so rarely that a test sees only what was expected.
        self.pauses = ReadPauses()
        self.due = ClaimsDue(
            slots=self.slots, registry=self.registry, state=self.state, pauses=self.pauses,
            poll_seconds=3600.0,
        )  # fmt: skip
        self.running = Running()
        self.outstanding = Outstanding()
        self.bus = RecordingBus()
        self.recorder = Recorder()
        self.failures: list[tuple[TaskSnapshot, str | None]] = []
        self.announcer = Announcer(
            bus=self.bus, observers=Observers([self.recorder]), log=FailureLog(),
            on_failure=self._failed,
        )  # fmt: skip
        self.stored: list[tuple[UUID, UUID]] = []
        self.waiters = Waiters(look=self._look)

    def _failed(self, snapshot: TaskSnapshot, traceback: str | None) -> None:
        self.failures.append((snapshot, traceback))

    async def _look(self, waiter: Waiter) -> Look:
        """Does nothing for bodies that wait."""
        return Look()

    def empty_queues(self) -> None:
        """Has the slots know that no row waits, as after a claim of empty queues."""
        plan = self.slots.plan(self.state.id, {"a"}, {"b"})
        for claim in plan.claims():
            plan.took(claim, 0)
        self.slots.learn(plan)

    def task(self, function: Callable[..., Any], **options: Any) -> TaskDefinition:
        """Registers a task under the function's name."""
        return self.registry.register(define(function, **options))

    def new(self, name: str = "body", **fields: Any) -> NewExecution:
        """Returns a new execution of a registered task."""
        values: dict[str, Any] = {
            "id": new_id(), "queue": "default", "priority": 0, "arguments": "{}", "max_retries": 0,
        }  # fmt: skip
        return NewExecution(name=name, **(values | fields))

    def claimed(self, name: str = "body", **fields: Any) -> Claimed:
        """Stores an execution as running here, and returns its claim."""
        new = self.new(name, runtime_id=self.state.id, token=new_id(), **fields)
        self.ledger.create_here(new)
        snapshot = self.ledger.get(new.id)
        assert snapshot is not None
        assert new.token is not None
        return Claimed(snapshot, new.arguments, new.token)

    async def wakes_in(self, clock: FakeClock, seconds: float) -> None:
        """Fails unless the dispatcher is needed after so many seconds, and not before."""
        needed = asyncio.ensure_future(self.due.until_needed())
        await clock.advance(seconds - 0.1)
        assert not needed.done()
        await clock.advance(0.2)
        assert needed.done()

    # --- services --------------------------------------------------------------------------------

    def settlements(self, **options: Any) -> Settlements:
        return Settlements(
            state=self.state, ledger=self.ledger, writers=None, running=self.running, due=self.due,
            announcer=self.announcer, outstanding=self.outstanding,
            on_stored=lambda *ids: self.stored.append(ids), **options,
        )  # fmt: skip

    def attempts(self, settlements: Settlements | None = None) -> Attempts:
        return Attempts(
            state=self.state, settings=self.settings, registry=self.registry,
            running=self.running, slots=self.slots, due=self.due, announcer=self.announcer,
            settlements=settlements or self.settlements(),
            progress=ProgressSaver(ledger=self.ledger), waiters=self.waiters,
            outstanding=self.outstanding,
        )  # fmt: skip

    def creations(self, **options: Any) -> Creations:
        return Creations(
            state=self.state, ledger=self.ledger, registry=self.registry, slots=self.slots,
            pauses=self.pauses, due=self.due, announcer=self.announcer,
            admission=Admission(self.ledger), attempts=self.attempts(),
            outstanding=self.outstanding, **options,
        )  # fmt: skip

    def status(self, execution_id: UUID) -> str:
        """Returns the status of a row."""
        snapshot = self.ledger.get(execution_id)
        assert snapshot is not None
        return str(snapshot.status)
