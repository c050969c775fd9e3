"""The runtime: starts what is new, claims what is due, runs it: a task of its own for each."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any
from uuid import UUID

import anyio
import msgspec

from rail_async_tasks.bus.port import Bus
from rail_async_tasks.conf import TaskSettings
from rail_async_tasks.definition import TaskDefinition
from rail_async_tasks.errors import BackendUnavailable
from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.errors import is_of_row
from rail_async_tasks.ledger.port import Ledger
from rail_async_tasks.ledger.records import (
    Claimed,
    Created,
    NewExecution,
    Outcome,
    Progress,
    RowLocked,
    Settled,
)
from rail_async_tasks.ledger.snapshots import as_created, as_settled
from rail_async_tasks.queue_limits import queue_limits
from rail_async_tasks.registry import Registry
from rail_async_tasks.runtime.admission import Admission
from rail_async_tasks.runtime.announce import announcer_for
from rail_async_tasks.runtime.attempts.attempt import Attempt
from rail_async_tasks.runtime.attempts.body_tasks import BodyTasks
from rail_async_tasks.runtime.attempts.lanes import OrmLanes
from rail_async_tasks.runtime.attempts.options import effective, terms
from rail_async_tasks.runtime.attempts.outcomes import Interruption, Terms
from rail_async_tasks.runtime.attempts.threads import DaemonThreads
from rail_async_tasks.runtime.attempts.waits import Waits
from rail_async_tasks.runtime.claims.broker import Broker
from rail_async_tasks.runtime.claims.broker_dispatcher import BrokerDispatcher, SendsDue
from rail_async_tasks.runtime.claims.deliveries import Deliveries
from rail_async_tasks.runtime.claims.local_dispatcher import ClaimsDue, LocalDispatcher
from rail_async_tasks.runtime.claims.slots import Slots
from rail_async_tasks.runtime.due import Due
from rail_async_tasks.runtime.failures import INLINE_HOLD, FailureCallbacks, hold_of
from rail_async_tasks.runtime.state import RuntimeState
from rail_async_tasks.runtime.timings import RuntimeTimings
from rail_async_tasks.runtime.upkeep.cancels import CancelReader
from rail_async_tasks.runtime.upkeep.cleanup import Cleaner
from rail_async_tasks.runtime.upkeep.corrections import QueueReader, TimeCorrector
from rail_async_tasks.runtime.upkeep.lease import Lease
from rail_async_tasks.runtime.upkeep.lease_thread import LeaseThread
from rail_async_tasks.runtime.upkeep.reconciler import Reconciler, ReconcilerTimings
from rail_async_tasks.runtime.upkeep.recovery import Recoverer
from rail_async_tasks.runtime.upkeep.scheduler import Scheduler
from rail_async_tasks.runtime.upkeep.steps import Step
from rail_async_tasks.runtime.upkeep.supervision import supervise
from rail_async_tasks.runtime.upkeep.unknown import UnknownNames, UnknownRows
from rail_async_tasks.runtime.upkeep.watchdog import Watchdog
from rail_async_tasks.runtime.upkeep.watched import WatchedReader
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.states import Status

logger = get_logger("rail_async_tasks.runtime")

# Progress reaches the row at most this often (seconds): two writes a second for a task.
SAVE_INTERVAL = 0.5
# What a body gets, at the end of the process, to end after it was asked to, in seconds.
DRAIN_GRACE = 1.0
# How long the end of the process is held up for a database that does not answer, in seconds.
FLUSH_PATIENCE = 5.0
# How long the end of the process waits for a row that another transaction has locked, in seconds.
LOCKED_OUTCOME_TIMEOUT = 1.0
# What failure callbacks that are being made get then, in seconds; others make them again.
CALLBACK_PATIENCE = 1.0
# How long the end of a process waits for a claim, in seconds.
CATCH_UP_PATIENCE = 2.0
# After how long (seconds) an outcome is offered again that the database would not take.
STORE_AGAIN = 1.0
# How often callers are looked for that have waited too long, while the runtime ends. Seconds.
ANSWER_EVERY = 1.0
# How long the caller of a creation waits for it, in seconds.
PATIENCE = 30.0


class Runtime:
    """One per process, on one event loop. `start` and `stop` it there; see `host.py`."""

    _abandons_locked = False  # the process ends, and waits for no lock any more

    def __init__(
        self,
        settings: TaskSettings,
        registry: Registry,
        ledger: Ledger,
        bus: Bus,
        *,
        concurrency: int | None = None,
        admission: Admission | None = None,
        broker: Broker | None = None,
        timings: RuntimeTimings = RuntimeTimings(),  # noqa: B008 (frozen)
    ) -> None:
        self.state = RuntimeState()
        self.settings = settings
        self.registry = registry
        self.ledger = ledger
        self.bus = bus
        self.admission = Admission(ledger) if admission is None else admission
        self.loop = asyncio.get_running_loop()
        self._broken: asyncio.Future[None] = self.loop.create_future()
        self._drained = asyncio.Event()
        self._hurried = False
        self.slots = Slots(
            coroutines=settings.max_concurrency if concurrency is None else concurrency,
            threads=settings.max_workers,
            total=concurrency,
            queues=queue_limits(settings, registry),
        )
        self.attempts: dict[UUID, Attempt] = {}
        self.callbacks = FailureCallbacks(settings, ledger, lambda: self.state.draining)
        self.announcer = announcer_for(settings, bus, self.callbacks.failed)
        self._broker = broker
        self.due: Due
        self._dispatcher: LocalDispatcher | BrokerDispatcher
        # What a broker brings here; None where executions run in the process that claims them.
        self.deliveries: Deliveries | None = None
        if broker is None:
            self.due = claims_due = ClaimsDue(slots=self.slots, registry=registry, state=self.state)
            self._dispatcher = LocalDispatcher(
                ledger=ledger, registry=registry, slots=self.slots, state=self.state,
                due=claims_due, start=self.start_claimed, max_crashes=settings.max_crashes,
                suspects_running=lambda: self._suspects > 0, running_by_owner=self.running_by_owner,
                timings=timings.local,
            )  # fmt: skip
        else:
            dispatches = ledger.dispatches()
            assert dispatches is not None, "the settings' rules: a broker needs rows in a database"
            self.due = sends_due = SendsDue(slots=self.slots, state=self.state)
            self._dispatcher = BrokerDispatcher(
                ledger=ledger, dispatches=dispatches, broker=broker, slots=self.slots,
                state=self.state, due=sends_due, max_concurrency=settings.max_concurrency,
                timings=timings.broker, inventory_timings=timings.inventory,
            )  # fmt: skip
            self.deliveries = Deliveries(
                dispatches=dispatches, state=self.state, names=registry.names,
                start=self.start_claimed, suspects_running=lambda: self._suspects > 0,
                max_crashes=settings.max_crashes,
            )  # fmt: skip
        self._share_rows(timings.reconciler)
        self._reconciler = Reconciler(
            steps=[*self._recovery_steps(timings.reconciler), *self._steps(timings.reconciler)],
            every_round=(self.check_lease, self.give_up_waiting),
            interval=timings.reconciler.interval,
        )
        days = settings.audit_retention_days if settings.audit_enabled else None
        self._cleaner = Cleaner(
            deletions=ledger, audit_log=ledger.audit_log(), events_days=days,
            timings=timings.cleanup,
        )  # fmt: skip
        self._scheduler = Scheduler(
            ledger=ledger, registry=registry, settings=settings, arrived=self.arrived,
            timings=timings.scheduler,
        )  # fmt: skip
        self._threads = DaemonThreads("rail-tasks-def")
        self._lanes = OrmLanes(settings.max_workers)
        self._ready = asyncio.Event()
        self._stop = asyncio.Event()
        self._bodies = BodyTasks(self.loop, self._over)
        self._waits = Waits(self)
        self._creating = 0
        # Callers of creations, the longest waiting first.
        self._waiting_since: dict[asyncio.Future[TaskSnapshot | None], float] = {}
        self._unsettled = 0
        self._settled = asyncio.Event()
        self._unsaved: dict[UUID, Attempt] = {}
        self._save_timer: asyncio.TimerHandle | None = None
        self._watchdog = Watchdog(self._name_of)
        self._lease: Lease | None = None
        self._lease_thread: LeaseThread | None = None
        self._lease_ended = asyncio.Event()
        self._suspects = 0  # attempts of what was lost with other processes

    def _share_rows(self, timings: ReconcilerTimings) -> None:
        """Builds the services for rows that several processes share."""
        # None where rows are in this process's memory.
        self.recoverer: Recoverer | None = None
        self._cancels: CancelReader | None = None
        recoveries, settings = self.ledger.recoveries(), self.settings
        if recoveries is not None:
            self.recoverer = Recoverer(
                recoveries=recoveries, state=self.state, due=self.due, announcer=self.announcer,
                settle=self._settle_unknown, max_crashes=settings.max_crashes,
                ttl=settings.result_ttl_seconds, callback=hold_of(settings),
            )  # fmt: skip
            self._cancels = CancelReader(
                recoveries=recoveries, state=self.state, running=self.attempts.keys(),
                cancel=self.cancel, pause=timings.cancel_pause,
            )  # fmt: skip

    def _recovery_steps(self, timings: ReconcilerTimings) -> Iterator[Step]:
        """Yields the reconciler's steps for rows that several processes share."""
        recoveries, recoverer = self.ledger.recoveries(), self.recoverer
        if recoveries is None or recoverer is None or self._cancels is None:
            return
        rows = UnknownRows(
            recoveries=recoveries, state=self.state, running=self.attempts.keys(),
            disown=recoverer.disown,
        )  # fmt: skip
        names = UnknownNames(
            recoveries=recoveries, known=self.registry.names, fail=recoverer.fail_unknown,
            seconds=self.settings.unknown_task_seconds,
        )  # fmt: skip
        yield self._cancels.step
        yield Step("running tasks", rows.read, every=timings.held_every)
        yield Step("unknown names", names.read, every=timings.names_every)

    def _steps(self, timings: ReconcilerTimings) -> Iterator[Step]:
        """Yields the reconciler's steps for every kind of ledger."""
        ledger = self.ledger
        watched = WatchedReader(
            reads=ledger, bus=self.bus, running=self.attempts.keys(), emits=self.announcer.emits,
            overlap=timings.overlap,
        )  # fmt: skip
        queues = QueueReader(reads=ledger, know=self.slots.know)
        ttl = self.settings.result_ttl_seconds
        times = TimeCorrector(ledger_clock=ledger, ttl=ttl, hold=INLINE_HOLD)
        yield Step("watched tasks", watched.read_tasks, every=timings.watched_every)
        yield Step("tasks of watched owners", watched.read_owners, every=timings.watched_every)
        yield Step("queues", queues.read, every=timings.queues_every)
        yield Step("failure callbacks", self.callbacks.find_overdue, every=timings.names_every)
        yield Step("wrong times", times.correct, every=timings.times_every)

    def _cancel_announced(self, execution_id: UUID) -> None:
        if self._cancels is not None:
            self._cancels.announced(execution_id)

    # --- the state, as others read it ------------------------------------------------------------

    @property
    def id(self) -> UUID:
        return self.state.id

    @property
    def holding(self) -> bool:
        return self.state.holding

    @property
    def draining(self) -> bool:
        return self.state.draining

    @property
    def recovered(self) -> int:
        """Executions that were taken over from dead processes."""
        return 0 if self.recoverer is None else self.recoverer.recovered

    @property
    def fences(self) -> int:
        """Leases that were lost."""
        return self.state.fences

    # --- life ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Starts the writers and the host task; `ready` tells when claims may begin.

        Raises whatever keeps a part from starting. What has been started is then given back in a
        while, after which `alive` is false and another runtime may start.
        """
        main = self._main
        try:
            self._start_parts()
        except BaseException as error:
            self.state.draining, main = True, self._close
            self.state.fail(error)
            for event in (self._ready, self._drained):
                event.set()
            self._broken.set_result(None)
            raise
        finally:
            # A clean context: one inherited from a request would give every ORM call after the
            # request's end a thread and a connection of its own.
            self.state.host = self.loop.create_task(
                main(), name="rail-tasks-host", context=contextvars.Context()
            )
            self.state.host.add_done_callback(_retrieve)  # it has been logged

    def _start_parts(self) -> None:
        self.ledger.start(self.broke)
        if self.announcer.emits:
            self.bus.start(self.ledger, self._cancel_announced)
        self._watchdog.start()
        leases = self.ledger.leases()
        if leases is None:
            self.state.holding = True
        else:
            self._lease = Lease(
                leases=leases, holder=self, call_loop=self.loop.call_soon_threadsafe,
                lag=lambda: self._watchdog.lag, names=self.registry.names,
                seconds=self.settings.lease_seconds,
            )  # fmt: skip
            self._lease_thread = LeaseThread(self._lease)
            self._lease_thread.start()

    def broke(self, part: str, error: BaseException) -> None:
        """An error has ended a thread without which nothing works: the runtime ends too."""
        self.state.fail(error)
        if not self._broken.done():
            self._broken.set_exception(RuntimeError(f"The thread {part} has ended: {error!r:.200}"))

    async def _end_if_broken(self) -> None:
        await self._broken

    async def ready(self) -> None:
        """Returns when executions may be created.

        Raises:
            BackendUnavailable: the runtime has ended by an error before.
        """
        await self._ready.wait()
        if self.state.fault is not None:
            raise self.state.refusal()

    def _is_ending(self) -> bool:
        return self.state.is_ending

    async def closed(self) -> None:
        """Returns when threads and connections have been given back."""
        if self.state.host is not None:
            await asyncio.wait({self.state.host})

    async def caught_up(self) -> None:
        """Returns when all that waits and finds a free slot has begun; in a while, in any case."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.due.caught_up(), CATCH_UP_PATIENCE)

    async def send_waiting(self, queues: Sequence[str]) -> bool:
        """Has what waits in these queues sent to workers; whether all was that may be."""
        assert isinstance(self._dispatcher, BrokerDispatcher), "only a broker is sent to"
        return await self._dispatcher.send_all(queues)

    @property
    def alive(self) -> bool:
        """Whether its loop runs and its host task has not ended."""
        host = self.state.host
        return not self.loop.is_closed() and host is not None and not host.done()

    async def _main(self) -> None:
        ending = asyncio.Event()
        try:
            async with anyio.create_task_group() as group:
                self.state.services = group.cancel_scope
                for name, part in (
                    ("dispatcher", self._dispatcher.run),
                    ("reconciler", self._reconciler.run),
                    ("clean-up", self._cleaner.run),
                    ("scheduler", self._scheduler.run),
                ):
                    group.start_soon(supervise, name, part, ending)
                if self._cancels is not None:
                    group.start_soon(supervise, "reader of cancels", self._cancels.run, ending)
                group.start_soon(self._end_if_broken)
                self._ready.set()
                try:
                    await self._stop.wait()
                finally:
                    # Also when the loop is shut down under us: nothing may start any more.
                    self.state.abandoned = self.state.is_cut_off
                    self.state.draining = True
                    self._drained.set()
                    ending.set()
                    self.due.wake()
                    self._reconciler.stop()
                    if self._cancels is not None:
                        self._cancels.stop()
                    self._cleaner.stop()
                    self._scheduler.stop()
                    if not self._broken.done():
                        self._broken.set_result(None)
                    if self.state.abandoned:
                        logger.critical("Something has ended the server's loop without a drain")
                    elif not self._stop.is_set():
                        self._interrupt_all(Interruption.HAND_BACK)
        except Exception as error:
            logger.critical("The runtime broke. What it ran goes on elsewhere", exc_info=True)
            self.state.fail(error)
            raise
        finally:
            self.state.draining = True
            self._ready.set()
            with anyio.CancelScope(shield=True):
                await self._close()

    async def _close(self) -> None:
        """Waits for bodies that were asked to end, writes what is left, gives threads back."""
        self._save_progress()
        await self._waits.close(FLUSH_PATIENCE)
        writers = self.ledger.writers()
        if writers is not None:
            writers.give_up_locked()
        await self._all_stored()
        await self.callbacks.ended(CALLBACK_PATIENCE)
        await self.ledger.stop()
        await self._end_lease()
        if self._broker is not None:
            with contextlib.suppress(Exception):  # the process is ending, the rows are safe
                await asyncio.wait_for(self._broker.aclose(), FLUSH_PATIENCE)
        await self.bus.stop()
        self._watchdog.stop()
        self._threads.shutdown()
        self._lanes.close()

    async def _all_stored(self) -> None:
        """Returns when bodies have ended and what was submitted to the ledger has been answered.

        After a fault it may be a writer that is gone: what cannot be stored in time is left, and
        recovered by others when the lease has lapsed.
        """
        deadline = self.loop.time() + FLUSH_PATIENCE
        locked_deadline = self.loop.time() + LOCKED_OUTCOME_TIMEOUT
        while (
            self._creating or self._unsettled or (self._bodies.running and not self.state.abandoned)
        ):
            if self.loop.time() > locked_deadline and not self._abandons_locked:
                self._abandons_locked = True
                writers = self.ledger.writers()
                if writers is not None:
                    writers.abandon_locked()
            if self.state.fault is not None and self.loop.time() > deadline:
                logger.error("%d outcomes could not be stored", self._unsettled)
                self.state.abandoned = True
                return
            self._settled.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._settled.wait(), ANSWER_EVERY)
            self.give_up_waiting()  # the reconciler, which does so, has stopped

    async def _end_lease(self) -> None:
        """Says that nothing is held here any more, so that nobody waits for it to be found out."""
        if self.recoverer is not None:
            self.recoverer.stop()
        if self._lease_thread is not None:
            self._lease_thread.stop()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._lease_ended.wait(), FLUSH_PATIENCE)

    async def drain(self) -> None:
        """Ends claims and streams; running bodies get `drain_seconds`, then are handed back.

        A second call waits for the first.
        """
        if self.state.draining:
            await self._drained.wait()
            return
        self.state.draining = True
        self.bus.close_mailboxes()
        self.due.wake()
        if self.deliveries is not None:
            self.deliveries.notice()
        if self.attempts:
            logger.info("Draining: %d tasks are running", len(self.attempts))
        try:
            await self._until_idle(0 if self._hurried else self.settings.drain_seconds)
            self._interrupt_all(Interruption.HAND_BACK, self._drain_grace)
            # A body that ignores it is given up, and its row settled: the process must end in time.
            await self._until_idle(self._drain_grace + 0.5)
        finally:
            self._drained.set()

    def hurry(self) -> None:
        """Has the drain, begun or to come, hand running bodies back at once."""
        self._hurried = True
        if self.state.draining:
            self._interrupt_all(Interruption.HAND_BACK, self._drain_grace)

    @property
    def _drain_grace(self) -> float:
        return min(self.settings.cancel_grace_seconds, DRAIN_GRACE)

    async def stop(self) -> None:
        """Drains, flushes and ends. Safe to call twice."""
        await self.drain()
        self._stop.set()
        if self.state.host is None:
            return
        if self.slots.leaked:
            logger.error("%d bodies that were given up are left behind", self.slots.leaked)
        await asyncio.wait([self.state.host], timeout=FLUSH_PATIENCE)
        if not self.state.host.done():
            logger.error(
                "%d outcomes could not be written in %g s: the database does not answer",
                self._unsettled, FLUSH_PATIENCE,
            )  # fmt: skip

    async def _until_idle(self, seconds: float) -> None:
        deadline = self.loop.time() + seconds
        while self.attempts and (left := deadline - self.loop.time()) > 0:
            self._settled.clear()
            try:
                await asyncio.wait_for(self._settled.wait(), left)
            except TimeoutError:
                return

    def _interrupt_all(self, why: Interruption, grace: float | None = None) -> None:
        for attempt in list(self.attempts.values()):
            attempt.interrupt(why, grace)

    # --- new executions --------------------------------------------------------------------------

    async def create(self, new: NewExecution) -> TaskSnapshot:
        """Stores a new execution and returns once that is durable; then it starts, or waits.

        Returns it as it stands at its creation, or the unfinished one that has its unique key.
        Cancelling the caller does not undo the creation.
        """
        if self.state.draining:
            raise self.state.refusal()
        if self.ledger.congested:
            await self._relieved()
        definition = self.registry.get(new.name)
        in_thread = definition is not None and not definition.is_coroutine
        if (
            definition is not None
            # One with a unique key may wait for the transaction that has it: it holds no slot.
            and new.unique_key is None
            and self.deliveries is None
            and new.delay is None
            and new.run_after is None
            and self.state.holding
            and self.slots.may_start_at_once(new.queue, in_thread)
        ):
            # Nobody is in front of it: its insert is its claim, with no second write.
            new = msgspec.structs.replace(new, runtime_id=self.state.id, token=new_id())
            self.slots.take(new.queue, in_thread)
        waiter: asyncio.Future[TaskSnapshot | None] = self.loop.create_future()
        self._waiting_since[waiter] = self.loop.time()
        self._creating += 1
        self.ledger.create(new, partial(self._created, new, definition, in_thread, waiter))
        try:
            snapshot = await waiter
        finally:
            del self._waiting_since[waiter]
        assert snapshot is not None
        return snapshot

    async def _relieved(self) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                while self.ledger.congested:
                    await self.ledger.relieved()
        except TimeoutError:
            raise unavailable() from None
        if self.state.draining:
            raise self.state.refusal()

    def give_up_waiting(self) -> None:
        """Answers the callers of creations that the database has not taken for too long.

        What becomes of those is known when it answers again: they may be stored, and run.
        """
        overdue = self.loop.time() - PATIENCE
        for waiter, since in list(self._waiting_since.items()):
            if since > overdue:
                break
            if not waiter.done():
                waiter.set_exception(unavailable())

    def _created(
        self,
        new: NewExecution,
        definition: TaskDefinition | None,
        in_thread: bool,
        waiter: asyncio.Future[TaskSnapshot | None],
        created: Created | BaseException,
    ) -> None:
        self._creating -= 1
        self._settled.set()
        claimed = new.token is not None
        if isinstance(created, BaseException) or created.existing is not None:
            if claimed:
                self._release(new.queue, in_thread)
            if not waiter.done():
                if isinstance(created, BaseException):
                    waiter.set_exception(refusal(created))
                else:
                    waiter.set_result(created.existing)
            return
        snapshot = as_created(new, created)
        if not waiter.done():
            waiter.set_result(snapshot)
        if claimed:
            self.announcer.enqueued_as_claim(snapshot)
            assert definition is not None
            assert new.token is not None
            running = msgspec.structs.replace(
                snapshot, status=Status.RUNNING, seq=2, attempts=1, started_at=created.at
            )
            self._begin(Claimed(running, new.arguments, new.token), definition, new.runtime_id)
        else:
            self.announcer.enqueued(snapshot)
            self.notice(new, created)

    def arrived(self, new: NewExecution, created: Created) -> None:
        """An execution was created elsewhere than in `create`, and waits."""
        snapshot = as_created(new, created)
        self.announcer.enqueued(snapshot)
        self.notice(new, created)

    def notice(self, new: NewExecution, created: Created) -> None:
        """A waiting row has come in; the dispatcher looks for it when it is due."""
        self.admission.left_waiting(new.owner_id)
        if created.run_after is None:
            self.due.expect(new.name, new.queue)
        else:
            self.due.due_in(new.delay or 0)

    # --- attempts --------------------------------------------------------------------------------

    def start_claimed(self, claimed: Claimed, held_by: UUID) -> None:
        """Runs an execution that the dispatcher has claimed in the name of `held_by`."""
        definition = self.registry.get(claimed.snapshot.name)
        assert definition is not None, "a claim names only tasks that are known here"
        self.slots.take(claimed.snapshot.queue, not definition.is_coroutine)
        self._begin(claimed, definition, held_by)

    def _begin(self, claimed: Claimed, definition: TaskDefinition, held_by: UUID | None) -> None:
        attempt = Attempt(
            claimed,
            definition,
            self._terms(claimed.snapshot, definition),
            loop=self.loop,
            threads=self._threads,
            progress_interval=self.settings.progress_interval_seconds,
            grace=self.settings.cancel_grace_seconds,
            on_progress=self._progressed,
            on_end=self._ended,
            is_ending=self._is_ending,
        )
        if self.settings.slow_task_threshold_seconds is not None:
            attempt.watch(self.settings.slow_task_threshold_seconds, self.announcer.slow)
        self.attempts[claimed.snapshot.id] = attempt
        self._suspects += claimed.suspect
        self.announcer.started(claimed.snapshot)
        if self.state.draining or held_by != self.state.id or not self.state.holding:
            # Claimed in the last moment, or under a lease that is over: before its first step.
            attempt.interrupt(Interruption.HAND_BACK)
            attempt.end_unstarted()
            return
        # Every attempt starts in a clean context, as the host did.
        context = contextvars.Context()
        if definition.is_coroutine:
            attempt.seat = self._lanes.least_busy().enter(attempt)
            context.run(attempt.seat.take)
        context.run(self._waits.enter, attempt)
        self._bodies.start(attempt, context)

    def _over(self, attempt: Attempt) -> None:
        """The attempt's task is done: nothing of its body runs on this loop any more."""
        if attempt.seat is not None:
            attempt.seat.leave()
        if attempt.given_up:
            self.slots.leaked -= 1
        self._settled.set()

    def _terms(self, snapshot: TaskSnapshot, definition: TaskDefinition) -> Terms:
        return terms(snapshot, definition, effective(definition, self.settings), self.settings)

    def _ended(self, attempt: Attempt, outcome: Outcome) -> None:
        """The body is over: its slot is free at once, its outcome on the way to the ledger."""
        if attempt.given_up:
            self.slots.leaked += 1
        self._unsaved.pop(attempt.snapshot.id, None)
        self._release(attempt.snapshot.queue, not attempt.definition.is_coroutine)
        self._settle(attempt, outcome)

    def _settle(self, attempt: Attempt, outcome: Outcome) -> None:
        if self.state.drops_outcomes:
            return  # the rows are recovered by others
        self._unsettled += 1
        self.ledger.settle(outcome, partial(self._settlement, attempt, outcome))

    def _settle_again(self, attempt: Attempt, outcome: Outcome) -> None:
        self._unsettled -= 1
        self._settle(attempt, outcome)

    def _settlement(
        self, attempt: Attempt, outcome: Outcome, settled: Settled | BaseException | None
    ) -> None:
        self._unsettled -= 1
        if isinstance(settled, RowLocked) and self._abandons_locked:
            logger.warning(
                "The outcome of task %s (%s) is not stored: another transaction has locked its row"
                " at the end of this process. The task is recovered, and its body runs again.",
                attempt.snapshot.name, outcome.id,
            )  # fmt: skip
            self.announcer.dropped(attempt.snapshot, attempt.seconds)
            self._settled.set()
            return
        if isinstance(settled, BaseException) and not is_of_row(settled):
            # Nothing is wrong with the outcome: it is kept until the database is mended.
            logger.error("The outcome of task %s can't be stored yet: %s", outcome.id, settled)
            self._unsettled += 1
            self.loop.call_later(STORE_AGAIN, self._settle_again, attempt, outcome)
            return
        if isinstance(settled, BaseException) and not attempt.refused:
            logger.error("The outcome of task %s can't be stored: %s", outcome.id, settled)
            attempt.refused = True
            self._settle(attempt, attempt.unstorable(settled))
            return
        if self.attempts.get(outcome.id) is attempt:  # else it was claimed again already
            del self.attempts[outcome.id]
        self._suspects -= attempt.suspect
        if self.deliveries is not None:
            self.deliveries.ended(outcome.id, attempt.token)
        self._settled.set()
        if isinstance(settled, BaseException):
            logger.error("Nothing can be stored of task %s: %s", outcome.id, settled)
            self.announcer.dropped(attempt.snapshot, attempt.seconds)
        elif settled is None:
            logger.warning("Task %s is no longer held here; its outcome is dropped", outcome.id)
            self.announcer.dropped(attempt.snapshot, attempt.seconds)
        else:
            after = as_settled(attempt.snapshot, outcome, settled)
            self.announcer.settled(after, attempt.seconds, outcome.traceback)
            if settled.status is Status.RETRYING and not self.state.draining:
                if settled.run_after is None:
                    self.due.expect(attempt.snapshot.name, attempt.snapshot.queue)
                else:
                    self.due.due_in(outcome.delay or 0)

    def _release(self, queue: str, in_thread: bool) -> None:
        self.slots.release(queue, in_thread)
        self.due.slot_freed()

    def cancel(self, execution_id: UUID) -> None:
        """Asks an attempt that runs here to end; the cancel is on its row already."""
        attempt = self.attempts.get(execution_id)
        if attempt is not None:
            attempt.snapshot = msgspec.structs.replace(attempt.snapshot, cancel_requested=True)
            attempt.interrupt(Interruption.CANCEL)

    # --- the lease -------------------------------------------------------------------------------

    @property
    def suspects_running(self) -> bool:
        return self._suspects > 0

    def running_by_owner(self, queue: str) -> dict[str, int]:
        """How many attempts of each owner run here in the queue; "" is nobody."""
        held = (it.snapshot for it in self.attempts.values())
        return Counter(it.owner_id or "" for it in held if it.queue == queue)

    def is_writing(self, seconds: float) -> bool:
        writers = self.ledger.writers()
        states = () if writers is None else writers.states()
        return all((state.failing_for or 0) < seconds for state in states)

    def leased(self, runtime_id: UUID) -> None:
        self.state.leased(runtime_id)
        self.due.look_everywhere()
        if self.deliveries is not None:
            self.deliveries.notice()

    def fenced(self, runtime_id: UUID) -> None:
        if self.state.fenced(runtime_id):
            self._interrupt_all(Interruption.HAND_BACK)

    def orphans(self, holders: frozenset[UUID]) -> None:
        assert self.recoverer is not None, "a ledger with leases has recoveries"
        self.recoverer.recover(holders)

    def lease_ended(self) -> None:
        self.state.holding = False
        self._lease_ended.set()

    def check_lease(self) -> None:
        """Gives a lease up that could not be renewed in time, whatever its thread waits for."""
        if self._lease is not None:
            self._lease.give_up_if_over()

    def _settle_unknown(
        self, outcome: Outcome, done: Callable[[Settled | BaseException | None], None]
    ) -> None:
        """Stores the outcome of an attempt that is unknown here; `_all_stored` waits for it."""

        def settled(answer: Settled | BaseException | None) -> None:
            self._unsettled -= 1
            self._settled.set()
            done(answer)

        self._unsettled += 1
        self.ledger.settle(outcome, settled)

    def _name_of(self, task: asyncio.Task[Any]) -> str:
        """What a task of the loop does, for the watchdog. In its thread."""
        for attempt in list(self.attempts.values()):
            if attempt.runs_in(task):
                return f"the task {attempt.snapshot.name} ({attempt.snapshot.id})"
        return f"{task.get_name()} ({getattr(task.get_coro(), '__qualname__', '?')})"

    # --- what others see -------------------------------------------------------------------------

    def _progressed(self, attempt: Attempt) -> None:
        self.announcer.progressed(attempt.snapshot)
        self._unsaved[attempt.snapshot.id] = attempt
        if self._save_timer is None:
            self._save_timer = self.loop.call_later(SAVE_INTERVAL, self._save_progress)

    def _save_progress(self) -> None:
        """Hands the latest progress of every attempt that has some to the ledger."""
        self._save_timer = None
        unsaved, self._unsaved = self._unsaved, {}
        for attempt in unsaved.values():
            snapshot = attempt.snapshot
            self.ledger.progress(
                Progress(
                    snapshot.id,
                    attempt.token,
                    snapshot.progress,
                    snapshot.progress_message,
                    snapshot.step,
                )
            )

    @property
    def failing_schedules(self) -> list[str]:
        """The tasks that their schedules could not start when last they tried."""
        return self._scheduler.failing

    @property
    def blocked(self) -> int:
        """How often something held the event loop for over a second."""
        return self._watchdog.blocked

    def statistics(self) -> dict[str, int]:
        """What goes on in this process, for operators."""
        return {
            "running": self.slots.running,
            "leaked": self.slots.leaked,
            "unsettled": self._unsettled,
            "blocked": self.blocked,
            "fences": self.state.fences,
            "recovered": self.recovered,
            **({} if self.deliveries is None else {"refused": self.deliveries.dropped}),
            **self.bus.statistics(),
        }


def _retrieve(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()


def unavailable() -> BackendUnavailable:
    """What the caller of a creation is told when the database does not answer."""
    return BackendUnavailable("The task could not be stored: the database has failed.")


def refusal(error: BaseException) -> BaseException:
    """What the caller is told when an execution could not be stored."""
    if is_of_row(error):
        return error
    logger.error("A task could not be stored: %s", error)
    refused = held_up() if isinstance(error, RowLocked) else unavailable()
    refused.__cause__ = error
    return refused


def held_up() -> BackendUnavailable:
    """The refusal of a creation whose unique key another transaction holds."""
    return BackendUnavailable(
        "The task could not be stored: another transaction has held its unique key for too long."
        " Try again once that transaction has ended."
    )
