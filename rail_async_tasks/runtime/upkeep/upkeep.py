"""Builds the services that keep a ledger in order. `Runtime` runs each under supervision."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from rail_async_tasks.bus.port import Bus
from rail_async_tasks.conf import TaskSettings
from rail_async_tasks.definition import Registry
from rail_async_tasks.ledger.port import Ledger
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
from rail_async_tasks.runtime.upkeep.reconciler import Reconciler, ReconcilerTimings
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
        ids, ttl = running.by_id.keys(), settings.result_ttl_seconds
        self.recoverer = Recoverer(
            ledger=ledger, state=state, due=due, announcer=announcer,
            settle=settlements.settle_unknown, max_crashes=settings.max_crashes, ttl=ttl,
            callback=hold_of(settings, timings.callbacks.hold),
        )  # fmt: skip
        self.cancels = CancelReader(
            ledger=ledger, state=state, running=ids, cancel=running.cancel,
            pause=timings.reconciler.cancel_pause,
        )  # fmt: skip
        watched = WatchedReader(
            ledger=ledger, bus=bus, running=ids, emits=announcer.emits,
            overlap=timings.reconciler.overlap,
        )  # fmt: skip
        rows = UnknownRows(ledger=ledger, state=state, running=ids, disown=self.recoverer.disown)
        names = UnknownNames(
            ledger=ledger, known=registry.names, fail=self.recoverer.fail_unknown,
            seconds=settings.unknown_task_seconds,
        )  # fmt: skip
        self._reconciler = Reconciler(
            steps=self._steps(
                watched=watched,
                rows=rows,
                names=names,
                queues=QueueReader(ledger=ledger, know=slots.know),
                times=TimeCorrector(ledger=ledger, ttl=ttl, hold=INLINE_HOLD),
                callbacks=callbacks,
                every=timings.reconciler,
            ),
            every_round=(check_lease, creations.answer_overdue),
            interval=timings.reconciler.interval,
        )
        days = settings.audit_retention_days if settings.audit_enabled else None
        self._cleaner = Cleaner(ledger=ledger, events_days=days, timings=timings.cleanup)
        self.scheduler = Scheduler(
            ledger=ledger, registry=registry, settings=settings, arrived=creations.arrived,
            timings=timings.scheduler,
        )  # fmt: skip

    def _steps(
        self,
        *,
        watched: WatchedReader,
        rows: UnknownRows,
        names: UnknownNames,
        queues: QueueReader,
        times: TimeCorrector,
        callbacks: FailureCallbacks,
        every: ReconcilerTimings,
    ) -> tuple[Step, ...]:
        """Returns the reconciler's steps, in the order in which a round takes them."""
        return (
            self.cancels.step,
            Step("watched tasks", watched.read_tasks, every=every.watched_every),
            Step("tasks of watched owners", watched.read_owners, every=every.watched_every),
            Step("running tasks", rows.read, every=every.held_every),
            Step("queues", queues.read, every=every.queues_every),
            Step("unknown names", names.read, every=every.names_every),
            Step("failure callbacks", callbacks.find_overdue, every=every.names_every),
            Step("wrong times", times.correct, every=every.times_every),
        )

    def loops(self) -> tuple[tuple[str, Callable[[], Awaitable[None]]], ...]:
        """Returns the loop of each service, with its name for the log."""
        return (
            ("reconciler", self._reconciler.run),
            ("search for cancels", self.cancels.run),
            ("clean-up", self._cleaner.run),
            ("scheduler", self.scheduler.run),
        )

    def stop(self) -> None:
        """Ends the loops, soon."""
        for service in (self._reconciler, self.cancels, self._cleaner, self.scheduler):
            service.stop()
