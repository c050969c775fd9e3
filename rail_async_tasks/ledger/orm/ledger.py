"""The ledger in the project's database: the parts put together.

Two writer threads, each with a connection of its own; one for all on SQLite. `intake` writes
creations and claims by queue. `outcomes` writes all else: outcomes, progress, recoveries. Claims of
deliveries are written by the one that has less to do. Calls of the service run in the caller's
thread, on the caller's connection and in its transaction.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from django.db import connections, router

from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.notices import Notice
from rail_async_tasks.ledger.operations import Claim, Create, Keep, Settle
from rail_async_tasks.ledger.options import LedgerOptions, ReadOptions
from rail_async_tasks.ledger.orm.callbacks import OrmCallbacks
from rail_async_tasks.ledger.orm.cancel import OrmCancels
from rail_async_tasks.ledger.orm.deletions import OrmAuditLog, OrmDeletions
from rail_async_tasks.ledger.orm.dispatches import OrmDispatches
from rail_async_tasks.ledger.orm.inline import OrmInlineAttempts
from rail_async_tasks.ledger.orm.leases import OrmLeases
from rail_async_tasks.ledger.orm.notices import PostgresNotices, notify
from rail_async_tasks.ledger.orm.queue_states import OrmQueueStates
from rail_async_tasks.ledger.orm.reads import OrmCounts, OrmReads
from rail_async_tasks.ledger.orm.recoveries import OrmRecoveries
from rail_async_tasks.ledger.orm.rollups import OrmRollups
from rail_async_tasks.ledger.orm.schedules import OrmSchedules
from rail_async_tasks.ledger.orm.threads import WriterThreads, answer
from rail_async_tasks.ledger.orm.times import OrmClock
from rail_async_tasks.ledger.orm.upserts import VENDORS
from rail_async_tasks.ledger.port import ClaimPlan
from rail_async_tasks.ledger.records import (
    ClaimResult,
    Created,
    NewExecution,
    OnFault,
    Outcome,
    Progress,
    Settled,
)
from rail_async_tasks.ledger.tables import check_tables
from rail_async_tasks.models import TaskExecution


class OrmLedger(
    OrmReads,
    OrmCounts,
    OrmCancels,
    OrmInlineAttempts,
    OrmSchedules,
    OrmClock,
    OrmDeletions,
    OrmQueueStates,
):
    """Executions as rows of `TaskExecution`. See `port.Ledger`."""

    def __init__(self, alias: str | None = None, *, options: ReadOptions = LedgerOptions) -> None:
        alias = alias or router.db_for_write(TaskExecution)
        threads = WriterThreads(alias, options=options)
        super().__init__(alias, options=options, threads=threads)
        self.intake, self.outcomes = threads.intake, threads.outcomes

    # --- writes of the runtime, in batches -------------------------------------------------------

    def check_tables(self) -> None:
        check_tables(self.alias)

    def start(self, on_fault: OnFault | None = None) -> None:
        self._threads.start(on_fault)

    async def stop(self) -> None:
        await self._threads.stop()

    def create(self, new: NewExecution, done: Callable[[Created | BaseException], None]) -> None:
        self.intake.submit(Create(new, done, time.monotonic() + self._options.create_timeout))

    async def claim(self, plan: ClaimPlan) -> ClaimResult:
        result: ClaimResult = await answer(self.intake, lambda done: Claim(plan, new_id(), done))
        return result

    def settle(
        self, outcome: Outcome, done: Callable[[Settled | BaseException | None], None]
    ) -> None:
        self.outcomes.submit(Settle(outcome, done))

    def progress(self, progress: Progress) -> None:
        self.outcomes.submit(Keep(progress, _ignore))

    @property
    def congested(self) -> bool:
        return self.outcomes.congested or self.intake.congested

    async def relieved(self) -> None:
        await self.outcomes.relieved()
        await self.intake.relieved()

    # --- the ports of a ledger that several processes share --------------------------------------

    def writers(self) -> WriterThreads:
        return self._threads

    def dispatches(self) -> OrmDispatches:
        return OrmDispatches(self.alias, options=self._read_options, threads=self._threads)

    def leases(self) -> OrmLeases:
        return OrmLeases(self.alias)

    def recoveries(self) -> OrmRecoveries:
        return OrmRecoveries(self.alias, options=self._read_options, threads=self._threads)

    def callbacks(self) -> OrmCallbacks:
        return OrmCallbacks(self.alias, options=self._read_options, threads=self._threads)

    def notices(self) -> PostgresNotices | None:
        if connections[self.alias].vendor != "postgresql":
            return None
        return PostgresNotices(self.alias, threads=self._threads)

    def notify_here(self) -> None:
        notify(self.alias, self._threads.sender, Notice.DUE)

    def audit_log(self) -> OrmAuditLog:
        return OrmAuditLog(self.alias, options=self._read_options, threads=self._threads)

    def rollups(self) -> OrmRollups | None:
        if connections[self.alias].vendor not in VENDORS:
            return None
        return OrmRollups(self.alias, options=self._read_options, threads=self._threads)


def _ignore(result: object) -> None:
    """Drops a failure to store progress: the next progress, or the outcome, supersedes it."""
