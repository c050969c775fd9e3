"""Builds the services that keep a ledger in order. `Runtime` runs each under supervision."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

from rail_async_tasks.bus.port import Bus
from rail_async_tasks.conf import TaskSettings
from rail_async_tasks.definition import Registry
from rail_async_tasks.ledger.port import Ledger
from rail_async_tasks.ledger.upkeep import Recoveries
from rail_async_tasks.runtime.announce import Announcer
from rail_async_tasks.runtime.attempts.running import Running
from rail_async_tasks.runtime.attempts.settlements import Settlements
from rail_async_tasks.runtime.claims.slots import Slots
from rail_async_tasks.runtime.creations import Creations
from rail_async_tasks.runtime.due import Due
from rail_async_tasks.runtime.failure_callbacks import FailureCallbacks
from rail_async_tasks.runtime.failures import INLINE_HOLD, hold_of
from rail_async_tasks.runtime.state import RuntimeState
from rail_async_tasks.runtime.timings import RuntimeTimings
from rail_async_tasks.runtime.upkeep.cancels import CancelReader
from rail_async_tasks.runtime.upkeep.cleanup import Cleaner
from rail_async_tasks.runtime.upkeep.corrections import QueueReader, TimeCorrector
from rail_async_tasks.runtime.upkeep.reconciler import Reconciler
from rail_async_tasks.runtime.upkeep.recovery import Recoverer
from rail_async_tasks.runtime.upkeep.scheduler import Scheduler
from rail_async_tasks.runtime.upkeep.steps import Step
from rail_async_tasks.runtime.upkeep.unknown import UnknownNames, UnknownRows
from rail_async_tasks.runtime.upkeep.watched import WatchedReader


class Upkeep:
    """Builds and stops the services; `run` names the loop of each.

    Args:
        check_lease: is called in each round of the reconciler.
    """

    def __init__(  # noqa: PLR0913 (collaborators)
        self,
        *,
        state: RuntimeState,
        settings: TaskSettings,
        registry: Registry,
        ledger: Ledger,
        bus: Bus,
        slots: Slots,
        due: Due,
        announcer: Announcer,
        callbacks: FailureCallbacks,
        running: Running,
        creations: Creations,
        settlements: Settlements,
        check_lease: Callable[[], None],
        timings: RuntimeTimings,
    ) -> None:
        self._every = timings.reconciler
        steps = self._steps(
            ledger=ledger, bus=bus, slots=slots, announcer=announcer, callbacks=callbacks,
            running=running, ttl=settings.result_ttl_seconds,
        )  # fmt: skip
        # None where rows are in this process's memory.
        self.recoverer: Recoverer | None = None
        self._cancels: CancelReader | None = None
        recoveries = ledger.recoveries()
        if recoveries is not None:
            self.recoverer = Recoverer(
                recoveries=recoveries, state=state, due=due, announcer=announcer,
                settle=settlements.settle_unknown, max_crashes=settings.max_crashes,
                ttl=settings.result_ttl_seconds,
                callback=hold_of(settings, timings.callbacks.hold),
            )  # fmt: skip
            self._cancels = CancelReader(
                recoveries=recoveries, state=state, running=running.by_id.keys(),
                cancel=running.cancel, pause=timings.reconciler.cancel_pause,
            )  # fmt: skip
            steps = [
                self._cancels.step,
                *self._recovery_steps(recoveries, self.recoverer, state, running, registry,
                                      settings.unknown_task_seconds),
                *steps,
            ]  # fmt: skip
        self._reconciler = Reconciler(
            steps=steps,
            every_round=(check_lease, creations.answer_overdue),
            interval=timings.reconciler.interval,
        )
        days = settings.audit_retention_days if settings.audit_enabled else None
        self._cleaner = Cleaner(
            deletions=ledger, audit_log=ledger.audit_log(), events_days=days,
            timings=timings.cleanup,
        )  # fmt: skip
        self.scheduler = Scheduler(
            ledger=ledger, registry=registry, settings=settings, arrived=creations.arrived,
            timings=timings.scheduler,
        )  # fmt: skip

    def _steps(
        self,
        *,
        ledger: Ledger,
        bus: Bus,
        slots: Slots,
        announcer: Announcer,
        callbacks: FailureCallbacks,
        running: Running,
        ttl: float | None,
    ) -> list[Step]:
        """Returns the reconciler's steps for every ledger."""
        every = self._every
        watched = WatchedReader(
            reads=ledger, bus=bus, running=running.by_id.keys(), emits=announcer.emits,
            overlap=every.overlap,
        )  # fmt: skip
        queues = QueueReader(reads=ledger, know=slots.know)
        times = TimeCorrector(ledger_clock=ledger, ttl=ttl, hold=INLINE_HOLD)
        return [
            Step("watched tasks", watched.read_tasks, every=every.watched_every),
            Step("tasks of watched owners", watched.read_owners, every=every.watched_every),
            Step("queues", queues.read, every=every.queues_every),
            Step("failure callbacks", callbacks.find_overdue, every=every.names_every),
            Step("wrong times", times.correct, every=every.times_every),
        ]

    def _recovery_steps(
        self,
        recoveries: Recoveries,
        recoverer: Recoverer,
        state: RuntimeState,
        running: Running,
        registry: Registry,
        unknown_task_seconds: float,
    ) -> list[Step]:
        """Returns the reconciler's steps for rows that several processes share."""
        rows = UnknownRows(
            recoveries=recoveries, state=state, running=running.by_id.keys(),
            disown=recoverer.disown,
        )  # fmt: skip
        names = UnknownNames(
            recoveries=recoveries, known=registry.names, fail=recoverer.fail_unknown,
            seconds=unknown_task_seconds,
        )  # fmt: skip
        return [
            Step("running tasks", rows.read, every=self._every.held_every),
            Step("unknown names", names.read, every=self._every.names_every),
        ]

    def cancel_announced(self, execution_id: UUID) -> None:
        """Another process has announced a cancel."""
        if self._cancels is not None:
            self._cancels.announced(execution_id)

    def loops(self) -> tuple[tuple[str, Callable[[], Awaitable[None]]], ...]:
        """Returns the loop of each service, with its name for the log."""
        loops = (
            ("reconciler", self._reconciler.run),
            ("clean-up", self._cleaner.run),
            ("scheduler", self.scheduler.run),
        )
        return (
            loops if self._cancels is None else (*loops, ("search for cancels", self._cancels.run))
        )

    def stop(self) -> None:
        """Ends the loops, soon."""
        for service in (self._reconciler, self._cancels, self._cleaner, self.scheduler):
            if service is not None:
                service.stop()
