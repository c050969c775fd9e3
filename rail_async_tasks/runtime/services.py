"""Builds the services of one runtime, and hands them to each other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from functools import partial
from uuid import UUID

from rail_async_tasks.bus.port import Bus
from rail_async_tasks.conf import TaskSettings
from rail_async_tasks.ledger.port import Ledger
from rail_async_tasks.ledger.records import Vitals
from rail_async_tasks.queue_limits import queue_limits
from rail_async_tasks.registry import Registry
from rail_async_tasks.roles import role
from rail_async_tasks.runtime.activity import Activity
from rail_async_tasks.runtime.admission import Admission
from rail_async_tasks.runtime.announce import announcer_for
from rail_async_tasks.runtime.at_end import await_at_end
from rail_async_tasks.runtime.attempts.attempts import Attempts
from rail_async_tasks.runtime.attempts.deadlocks import DeadlockBreaker
from rail_async_tasks.runtime.attempts.progress_saver import ProgressSaver
from rail_async_tasks.runtime.attempts.running import Running
from rail_async_tasks.runtime.attempts.settlements import Settlements
from rail_async_tasks.runtime.attempts.waiters import Look, Waiter, Waiters
from rail_async_tasks.runtime.claims.broker import Broker
from rail_async_tasks.runtime.claims.broker_dispatcher import BrokerDispatcher
from rail_async_tasks.runtime.claims.deliveries import Deliveries
from rail_async_tasks.runtime.claims.local_dispatcher import ClaimsDue, LocalDispatcher
from rail_async_tasks.runtime.claims.pauses import Pauses
from rail_async_tasks.runtime.claims.sends_due import SendsDue
from rail_async_tasks.runtime.claims.slots import Slots
from rail_async_tasks.runtime.creations import Creations
from rail_async_tasks.runtime.due import Due
from rail_async_tasks.runtime.ending import Ending
from rail_async_tasks.runtime.failure_callbacks import FailureCallbacks
from rail_async_tasks.runtime.failures import hold_of
from rail_async_tasks.runtime.leasing import Leasing
from rail_async_tasks.runtime.names import NameFinder
from rail_async_tasks.runtime.notices import NoticeExchange, longest_poll_of
from rail_async_tasks.runtime.outstanding import Outstanding
from rail_async_tasks.runtime.state import RuntimeState
from rail_async_tasks.runtime.timings import RuntimeTimings
from rail_async_tasks.runtime.tracing import tracer_for
from rail_async_tasks.runtime.upkeep.upkeep import Upkeep
from rail_async_tasks.runtime.upkeep.watchdog import QUIET_TICK_SECONDS, Watchdog


class Services:
    """Built on the runtime's loop; none of them runs before `Runtime.start`.

    Args:
        concurrency: replaces the limit of coroutines, and limits bodies of either kind together.
        broke: is called with the name of a thread that an error has ended, and that error.
    """

    def __init__(
        self,
        *,
        settings: TaskSettings,
        registry: Registry,
        ledger: Ledger,
        bus: Bus,
        broker: Broker | None,
        concurrency: int | None,
        admission: Admission,
        broke: Callable[[str, BaseException], None],
        timings: RuntimeTimings,
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._ledger = ledger
        self._bus = bus
        self._broker = broker
        self._broke = broke
        self._timings = timings
        self.state = RuntimeState()
        self.slots = Slots(
            coroutines=settings.max_concurrency if concurrency is None else concurrency,
            threads=settings.max_workers,
            total=concurrency,
            queues=queue_limits(settings, registry),
        )
        self.pauses = Pauses(reads=ledger, hold=self._hold)
        self.activity = Activity(asyncio.get_running_loop().time)
        self.running = Running(self.activity)
        self.outstanding = Outstanding()
        self.callbacks = FailureCallbacks(
            settings=settings,
            reservations=ledger.callbacks(),
            state=self.state,
            limits=timings.callbacks,
        )
        self.announcer = announcer_for(settings, bus, self.callbacks.failed)
        self.names = NameFinder(registry=registry, reads=ledger, learnt=self._learnt)
        self.due: Due
        self.dispatcher: LocalDispatcher | BrokerDispatcher
        # Takes the ids in that a broker brings; None where a process runs what it claims.
        self.deliveries: Deliveries | None = None
        self.notices = NoticeExchange(
            notices=ledger.notices(), on_due=self._survey_now, alone=self._is_alone,
            room=lambda: broker is not None or self.slots.any_room,
            on_queues=self.queues_changed, on_cancel=self._cancel_announced,
            poll=longest_poll_of(ledger),
        )  # fmt: skip
        if broker is None:
            self._build_local()
        else:
            self._build_for(broker)
        self.creations = Creations(
            state=self.state, ledger=ledger, registry=registry, slots=self.slots,
            pauses=self.pauses, due=self.due, announcer=self.announcer, admission=admission,
            attempts=self.attempts, outstanding=self.outstanding, runs_here=broker is None,
            timings=timings.creations,
        )  # fmt: skip
        self.ending = Ending(
            state=self.state, running=self.running, attempts=self.attempts,
            creations=self.creations, settlements=self.settlements, outstanding=self.outstanding,
            drain_seconds=settings.drain_seconds, cancel_grace=settings.cancel_grace_seconds,
            timings=timings.end,
        )  # fmt: skip
        self.watchdog = Watchdog(
            self.running.name_of,
            quiet=lambda: self.activity.quiet,
            quiet_tick=min(QUIET_TICK_SECONDS, settings.lease_seconds / 10),
        )
        self.activity.when_quiet_ends(self.watchdog.alert)
        # The machine may have slept: a lease is looked at seldom in a quiet time.
        self.activity.when_quiet_ends(self._check_lease)
        self.upkeep = Upkeep(
            state=self.state, settings=settings, registry=registry, ledger=ledger, bus=bus,
            slots=self.slots, pauses=self.pauses, due=self.due, announcer=self.announcer,
            callbacks=self.callbacks, running=self.running, creations=self.creations,
            settlements=self.settlements, names=self.names, check_lease=self._check_lease,
            activity=self.activity, timings=timings,
        )  # fmt: skip
        self.leasing = Leasing(
            state=self.state, ledger=ledger, running=self.running, due=self.due,
            deliveries=self.deliveries, recoverer=self.upkeep.recoverer, names=registry.names,
            lag=lambda: self.watchdog.lag, vitals=self._vitals,
            quiet=lambda: self.activity.quiet, lease_seconds=settings.lease_seconds, broke=broke,
        )  # fmt: skip

    def _build_local(self) -> None:
        """Builds the services of a process that runs what it claims."""
        self.due = due = ClaimsDue(
            slots=self.slots, registry=self._registry, state=self.state, pauses=self.pauses,
            longest_poll=self.notices.longest_poll,
            rows_left=self.notices.rows_left,
        )  # fmt: skip
        self._build_attempts(runs_here=True)
        self.dispatcher = LocalDispatcher(
            ledger=self._ledger, registry=self._registry, slots=self.slots, state=self.state,
            due=due, start=self.attempts.start, pauses=self.pauses,
            suspects_running=self._suspects_running, running_by_owner=self.running.by_owner,
            max_crashes=self._settings.max_crashes, timings=self._timings.local,
        )  # fmt: skip

    def _build_for(self, broker: Broker) -> None:
        """Builds the services of a process that sends due executions to a broker."""
        settings, dispatches = self._settings, self._ledger.dispatches()
        assert dispatches is not None, "the settings' rules: a broker needs rows in a database"
        self.due = due = SendsDue(
            slots=self.slots, state=self.state, pauses=self.pauses,
            longest_poll=self.notices.longest_poll,
        )  # fmt: skip
        self._build_attempts(runs_here=False)
        self.dispatcher = BrokerDispatcher(
            ledger=self._ledger, dispatches=dispatches, broker=broker, slots=self.slots,
            state=self.state, due=due, pauses=self.pauses, max_concurrency=settings.max_concurrency,
            timings=self._timings.broker, inventory_timings=self._timings.inventory,
        )  # fmt: skip
        self.deliveries = Deliveries(
            dispatches=dispatches, state=self.state, names=self._registry.names,
            start=self.attempts.start, pauses=self.pauses, suspects_running=self._suspects_running,
            max_crashes=settings.max_crashes, rates=self.slots.rates, learn=self.names.learn_of,
        )  # fmt: skip

    def _build_attempts(self, *, runs_here: bool) -> None:
        settings, timings = self._settings, self._timings.attempts
        self.settlements = Settlements(
            state=self.state, ledger=self._ledger, writers=self._ledger.writers(),
            running=self.running, due=self.due, announcer=self.announcer,
            outstanding=self.outstanding,
            on_stored=None if runs_here else self._delivery_ended, timings=timings,
        )  # fmt: skip
        self.progress = ProgressSaver(ledger=self._ledger, timings=timings)
        self.waiters = Waiters(look=self._look_at, timings=timings)
        self.attempts = Attempts(
            state=self.state, settings=settings, registry=self._registry, running=self.running,
            slots=self.slots, due=self.due, announcer=self.announcer, settlements=self.settlements,
            progress=self.progress, waiters=self.waiters, outstanding=self.outstanding,
            callback_hold=hold_of(settings, self._timings.callbacks.hold),
            tracer=tracer_for(settings),
            on_slot_freed=None if runs_here else self._delivery_freed,
        )  # fmt: skip
        self.deadlocks = DeadlockBreaker(
            state=self.state, ledger=self._ledger, registry=self._registry, running=self.running,
            slots=self.slots, attempts=self.attempts, waiters=self.waiters,
            max_crashes=settings.max_crashes, runs_here=runs_here, timings=timings,
        )  # fmt: skip

    def loops(self) -> Iterator[tuple[str, Callable[[], Awaitable[None]]]]:
        """Yields the loop of each service that has one, with its name for the log."""
        yield "dispatcher", self.dispatcher.run
        yield "listener for notices", self.notices.run
        yield from self.upkeep.loops()

    # --- start and end ---------------------------------------------------------------------------

    def open(self, stack: AsyncExitStack) -> None:
        """Starts threads and connections, and gives the stack what ends them, last step first.

        All steps are taken, also where a start fails half-way.
        """
        ledger, timings, writers = self._ledger, self._timings.end, self._ledger.writers()
        await_at_end(stack, partial(self.attempts.close, timings.threads_timeout))
        stack.callback(self.watchdog.stop)
        await_at_end(stack, self._bus.stop)
        await_at_end(stack, self._close_broker)
        # The lease outlasts the last write.
        await_at_end(stack, partial(self.leasing.end, timings.flush_timeout))
        await_at_end(stack, ledger.stop)
        await_at_end(stack, self.notices.close)
        if self.upkeep.rollups is not None:
            await_at_end(stack, self.upkeep.rollups.close)
        await_at_end(stack, partial(self.callbacks.ended, timings.callback_timeout))
        await_at_end(stack, self.ending.flush)
        if writers is not None:
            stack.callback(writers.give_up_locked)
        await_at_end(stack, partial(self.waiters.close, timings.flush_timeout))
        stack.callback(self.progress.save)
        ledger.start(self._broke)
        if self.upkeep.rollups is not None:
            self.upkeep.rollups.open()
        if self.announcer.emits:
            self._bus.start(ledger, self.upkeep.cancel_announced, self.queues_changed)
        self.watchdog.start()
        self.leasing.start()

    async def _close_broker(self) -> None:
        if self._broker is not None:
            with suppress(Exception):  # the process is ending, the rows are safe
                timeout = self._timings.end.flush_timeout
                await asyncio.wait_for(self._broker.aclose(), timeout)

    def _suspects_running(self) -> bool:
        return self.running.any_suspect

    def queues_changed(self) -> None:
        """A queue was paused or resumed, here or elsewhere: the dispatcher reads which."""
        self.pauses.changed()
        self.due.wake()

    # --- calls from a service to one that is built after it --------------------------------------

    def _learnt(self) -> None:
        self.due.look_everywhere()

    def _hold(self, paused: frozenset[str]) -> None:
        self.slots.hold(paused)
        self.due.look_everywhere()

    def _vitals(self) -> Vitals:
        return Vitals(role(), self.watchdog.worst_lag, self.slots.leaked)

    def _survey_now(self) -> None:
        self.due.survey_now()

    def _is_alone(self) -> bool:
        return self.leasing.alone

    def _cancel_announced(self, execution_id: UUID) -> None:
        self.upkeep.cancel_announced(execution_id)

    def _check_lease(self) -> None:
        self.leasing.check()

    def _delivery_freed(self, execution_id: UUID, token: UUID) -> None:
        assert self.deliveries is not None
        self.deliveries.slot_freed(execution_id, token)

    def _delivery_ended(self, execution_id: UUID, token: UUID) -> None:
        assert self.deliveries is not None
        self.deliveries.settled(execution_id, token)

    async def _look_at(self, waiter: Waiter) -> Look:
        return await self.deadlocks.look(waiter)
