"""Builds the services that keep a ledger in order. `Runtime` runs each under supervision."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from uuid import UUID

from rail_async_tasks.bus.port import Bus
from rail_async_tasks.conf import TaskSettings
from rail_async_tasks.ledger.port import Ledger
from rail_async_tasks.registry import Registry
from rail_async_tasks.runtime.activity import Activity
from rail_async_tasks.runtime.announce import Announcer
from rail_async_tasks.runtime.attempts.running import Running
from rail_async_tasks.runtime.attempts.settlements import Settlements
from rail_async_tasks.runtime.claims.pauses import Pauses
from rail_async_tasks.runtime.claims.slots import Slots
from rail_async_tasks.runtime.creations import Creations
from rail_async_tasks.runtime.due import Due
from rail_async_tasks.runtime.failure_callbacks import FailureCallbacks
from rail_async_tasks.runtime.failures import INLINE_HOLD, hold_of
from rail_async_tasks.runtime.names import NameFinder
from rail_async_tasks.runtime.rollups import counter
from rail_async_tasks.runtime.state import RuntimeState
from rail_async_tasks.runtime.timings import RuntimeTimings
from rail_async_tasks.runtime.upkeep.cancels import CancelReader
from rail_async_tasks.runtime.upkeep.cleanup import Cleaner
from rail_async_tasks.runtime.upkeep.corrections import QueueReader, TimeCorrector
from rail_async_tasks.runtime.upkeep.reconciler import Reconciler
from rail_async_tasks.runtime.upkeep.recovery import Recoverer
from rail_async_tasks.runtime.upkeep.rollup_writer import RollupWriter
from rail_async_tasks.runtime.upkeep.scheduler import Scheduler
from rail_async_tasks.runtime.upkeep.steps import Step
from rail_async_tasks.runtime.upkeep.unknown import UnknownNames, UnknownRows
from rail_async_tasks.runtime.upkeep.watched import WatchedReader


class Upkeep:
    """The reconciler with its steps, the clean-up, the scheduler and the recovery of rows.

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
        pauses: Pauses,
        due: Due,
        announcer: Announcer,
        callbacks: FailureCallbacks,
        running: Running,
        creations: Creations,
        settlements: Settlements,
        names: NameFinder,
        check_lease: Callable[[], None],
        activity: Activity,
        timings: RuntimeTimings,
    ) -> None:
        every = timings.reconciler
        ids = running.by_id.keys()  # a live view: always the ids of the moment
        ttl, recoveries = settings.result_ttl_seconds, ledger.recoveries()
        # None where rows are in this process's memory.
        self.recoverer: Recoverer | None = None
        self._cancels: CancelReader | None = None
        # First, as it must not wait for the others: nothing starts by what was read long ago.
        steps: list[Step] = [Step("pauses", pauses.read, wanted=lambda: not activity.quiet)]
        if recoveries is not None:
            self.recoverer = Recoverer(
                recoveries=recoveries, state=state, due=due, announcer=announcer,
                settle=settlements.settle_unknown, max_crashes=settings.max_crashes, ttl=ttl,
                callback_hold=hold_of(settings, timings.callbacks.hold),
            )  # fmt: skip
            self._cancels = CancelReader(
                recoveries=recoveries, state=state, running=ids, cancel=running.cancel,
                pause=every.cancel_pause,
            )  # fmt: skip
            rows = UnknownRows(
                recoveries=recoveries, state=state, running=ids, disown=self.recoverer.disown
            )
            unknown = UnknownNames(
                recoveries=recoveries, known=registry.names, learn=names.learn,
                fail=self.recoverer.fail_unknown, seconds=settings.unknown_task_seconds,
            )  # fmt: skip
            steps += [
                self._cancels.step,
                Step(
                    "running tasks", rows.read,
                    every=every.held_every, quiet_every=every.quiet_held_every,
                ),
                Step(
                    "unknown names", unknown.read,
                    every=every.names_every, quiet_every=every.quiet_names_every,
                ),
            ]  # fmt: skip
        watched = WatchedReader(
            reads=ledger, bus=bus, running=ids, emits=announcer.emits, overlap=every.overlap
        )
        queues = QueueReader(reads=ledger, know=slots.know)
        times = TimeCorrector(ledger_clock=ledger, ttl=ttl, hold=INLINE_HOLD)
        steps += [
            Step("watched tasks", watched.read_tasks, every=every.watched_every),
            Step("tasks of watched owners", watched.read_owners, every=every.watched_every),
            Step("queues", queues.read, every=every.queues_every),
            Step("failure callbacks", callbacks.find_overdue, every=every.names_every),
            Step("wrong times", times.correct, every=every.times_every),
        ]
        self._reconciler = Reconciler(
            steps=steps,
            every_round=(check_lease, creations.answer_overdue),
            interval=every.interval,
            quiet=lambda: activity.check(len(ids)),
        )
        activity.when_quiet_ends(self._reconciler.wake)
        rollups, days = ledger.rollups(), settings.audit_retention_days
        self._cleaner = Cleaner(
            deletions=ledger, audit_log=ledger.audit_log(),
            events_days=days if settings.audit_enabled else None, rollups=rollups,
            timings=timings.cleanup,
        )  # fmt: skip
        # None where nothing is counted, or the ledger keeps no counts.
        self.rollups: RollupWriter | None = None
        if rollups is not None and settings.statistics_enabled:
            self.rollups = RollupWriter(rollups=rollups, counter=counter(), timings=timings.rollups)
        self.scheduler = Scheduler(
            ledger=ledger, registry=registry, settings=settings, arrived=creations.arrived,
            timings=timings.scheduler,
        )  # fmt: skip

    def loops(self) -> Iterator[tuple[str, Callable[[], Awaitable[None]]]]:
        """Yields the loop of each service, with its name for the log."""
        yield "reconciler", self._reconciler.run
        if self._cancels is not None:
            yield "reader of cancels", self._cancels.run
        yield "clean-up", self._cleaner.run
        yield "scheduler", self.scheduler.run
        if self.rollups is not None:
            yield "writer of statistics", self.rollups.run

    def stop(self) -> None:
        """Ends the loops, soon."""
        steps = self._reconciler, self._cancels, self._cleaner
        for service in (*steps, self.scheduler, self.rollups):
            if service is not None:
                service.stop()

    def cancel_announced(self, execution_id: UUID) -> None:
        """Has cancels read soon: another process has announced one, which the row shows."""
        if self._cancels is not None:
            self._cancels.announced(execution_id)
