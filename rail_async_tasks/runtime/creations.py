"""Stores new executions and starts them at once where nothing waits in front of them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Final, Protocol, TypeAlias

import msgspec

from rail_async_tasks.declaration.definition import TaskDefinition
from rail_async_tasks.errors import BackendUnavailable
from rail_async_tasks.ledger import port
from rail_async_tasks.ledger.errors import is_of_row
from rail_async_tasks.ledger.records import Claimed, Created, NewExecution, RowLocked
from rail_async_tasks.ledger.snapshots import as_created
from rail_async_tasks.registry import Registry
from rail_async_tasks.runtime.admission import Admission
from rail_async_tasks.runtime.announce import Announcer
from rail_async_tasks.runtime.attempts.attempts import Attempts
from rail_async_tasks.runtime.claims.pauses import Pauses
from rail_async_tasks.runtime.claims.slots import Slots
from rail_async_tasks.runtime.due import Due
from rail_async_tasks.runtime.outstanding import Outstanding
from rail_async_tasks.runtime.state import RuntimeState
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.states import Status

logger = get_logger("rail_async_tasks.runtime")


class CreationTimings(msgspec.Struct, frozen=True, kw_only=True):
    """All in seconds."""

    # The caller of a creation waits so long for the database.
    timeout: float = 30.0


CREATION_TIMINGS = CreationTimings()

Caller: TypeAlias = asyncio.Future[TaskSnapshot | None]

# Half of the slots that a process has by default. Then short bodies have left theirs by the time
# that the next creations come, which can begin at once too.
AT_ONCE: Final = 50


class CreationLedger(port.Creations, port.Congestion, Protocol):
    """The part of a ledger that stores new executions."""


class Creations:
    """Inserts executions; an insert is a claim where a slot is free. On the runtime's loop.

    Args:
        runs_here: executions run in the process that claims them, not by way of a broker.
        at_once: how many may be on their way to the database; others wait in line for them.
    """

    def __init__(  # noqa: PLR0913 (collaborators)
        self,
        *,
        state: RuntimeState,
        ledger: CreationLedger,
        registry: Registry,
        slots: Slots,
        pauses: Pauses,
        due: Due,
        announcer: Announcer,
        admission: Admission,
        attempts: Attempts,
        outstanding: Outstanding,
        runs_here: bool = True,
        at_once: int = AT_ONCE,
        timings: CreationTimings = CREATION_TIMINGS,
    ) -> None:
        self._state = state
        self._ledger = ledger
        self._registry = registry
        self._slots = slots
        self._pauses = pauses
        self._due = due
        self._announcer = announcer
        self._admission = admission
        self._attempts = attempts
        self._outstanding = outstanding
        self._runs_here = runs_here
        self._timeout = timings.timeout
        self._loop = asyncio.get_running_loop()
        # Callers and when they came, by the loop's clock: the longest waiting first.
        self._callers: dict[Caller, float] = {}
        self._at_once = at_once
        self._on_their_way = 0
        self._advances = False  # is to be called
        self._line: deque[tuple[NewExecution, Caller]] = deque()

    async def create(self, new: NewExecution) -> TaskSnapshot:
        """Stores a new execution and returns once that is durable; then it starts, or waits.

        Returns it as it stands at its creation, or the unfinished one that has its unique key.
        Cancelling the caller does not undo the creation.

        Raises:
            BackendUnavailable: the runtime ends, or the database has not taken it in time.
        """
        if self._state.draining:
            raise self._state.refusal()
        if self._ledger.congested:
            await self._relieved()
        caller: Caller = self._loop.create_future()
        self._callers[caller] = self._loop.time()
        self._outstanding.creations += 1
        # One with a unique key may wait for the transaction that has it: it holds up no other one.
        if new.unique_key is None and (self._line or self._on_their_way >= self._at_once):
            self._line.append((new, caller))
        else:
            self._store(new, caller)
        try:
            snapshot = await caller
        finally:
            del self._callers[caller]
        assert snapshot is not None
        return snapshot

    def arrived(self, new: NewExecution, created: Created) -> None:
        """An execution was created elsewhere than in `create`, and waits; it is counted there."""
        self._waits(new, created, as_created(new, created))

    def arrived_many(self, snapshots: Sequence[TaskSnapshot]) -> None:
        """The same for several. Both times of a delayed one are the ledger's."""
        for snapshot in snapshots:
            self._announcer.enqueued(snapshot)
            if snapshot.run_after is None:
                self._due.expect(snapshot.name, snapshot.queue)
            else:
                self._due.due_in(
                    max((snapshot.run_after - snapshot.created_at).total_seconds(), 0.0)
                )

    def answer_overdue(self) -> None:
        """Raises `BackendUnavailable` for callers that have waited longer than the timeout.

        Their executions may still be stored, and run, once the database answers again.
        """
        overdue = self._loop.time() - self._timeout
        for caller, since in list(self._callers.items()):
            if since > overdue:
                break
            if not caller.done():
                caller.set_exception(unavailable())

    def _store(self, new: NewExecution, caller: Caller) -> None:
        definition = self._registry.get(new.name)
        in_thread = definition is not None and not definition.is_coroutine
        if (
            definition is not None
            and new.unique_key is None
            and self._runs_here
            and new.delay is None
            and new.run_after is None
            and self._state.holding
            and not self._state.draining
            and self._pauses.known
            and self._slots.may_start_at_once(new.queue, in_thread)
        ):
            # Nothing waits in front of it: its insert is its claim, with no second write.
            # No other attempt of it is the first one: its id serves as the token.
            new = msgspec.structs.replace(new, runtime_id=self._state.id, token=new.id)
            self._slots.take(new.queue, in_thread)
        self._on_their_way += new.unique_key is None
        self._ledger.create(new, partial(self._answered, new, definition, in_thread, caller))

    def _advance(self) -> None:
        self._advances = False
        while self._line and self._on_their_way < self._at_once:
            self._store(*self._line.popleft())

    async def _relieved(self) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                while self._ledger.congested:
                    await self._ledger.relieved()
        except TimeoutError:
            raise unavailable() from None
        if self._state.draining:
            raise self._state.refusal()

    def _answered(
        self,
        new: NewExecution,
        definition: TaskDefinition | None,
        in_thread: bool,
        caller: Caller,
        created: Created | BaseException,
    ) -> None:
        self._on_their_way -= new.unique_key is None
        if self._line and not self._advances:
            self._advances = True
            # Behind the first steps of the bodies that begin now: the short ones free their slots.
            self._loop.call_soon(self._loop.call_soon, self._advance)
        self._outstanding.creations -= 1
        self._outstanding.changed()
        if isinstance(created, BaseException) or created.existing is not None:
            if new.token is not None:
                self._slots.release(new.queue, in_thread)
                self._due.slot_freed(new.queue)
            if not caller.done():
                if isinstance(created, BaseException):
                    caller.set_exception(refusal(created))
                else:
                    caller.set_result(created.existing)
            return
        snapshot = as_created(new, created)
        if not caller.done():
            caller.set_result(snapshot)
        if new.token is None:
            self._waits(new, created, snapshot)
            self._admission.left_waiting(new.owner_id)
        else:
            assert definition is not None
            self._announcer.enqueued_as_claim(snapshot)
            running = msgspec.structs.replace(
                snapshot, status=Status.RUNNING, seq=2, attempts=1, started_at=created.at
            )
            claimed = Claimed(
                running, new.arguments, new.token, new.language, False,
                new.traceparent, new.tracestate,
            )  # fmt: skip
            self._attempts.begin(claimed, definition, new.runtime_id)

    def _waits(self, new: NewExecution, created: Created, snapshot: TaskSnapshot) -> None:
        """Announces a waiting row; the dispatcher looks for it when it is due."""
        self._announcer.enqueued(snapshot)
        if created.run_after is None:
            self._due.expect(new.name, new.queue)
        else:
            self._due.due_in(new.delay or 0)


def unavailable() -> BackendUnavailable:
    """Returns the error for a caller whose execution the database has not taken."""
    return BackendUnavailable("The task could not be stored: the database has failed.")


def refusal(error: BaseException) -> BaseException:
    """Returns the error for a caller whose execution could not be stored; logs an outage."""
    if is_of_row(error):
        return error
    logger.error("A task could not be stored: %s", error)
    refused = _key_locked() if isinstance(error, RowLocked) else unavailable()
    refused.__cause__ = error
    return refused


def _key_locked() -> BackendUnavailable:
    return BackendUnavailable(
        "The task could not be stored: another transaction has held its unique key for too long."
        " Try again once that transaction has ended."
    )
