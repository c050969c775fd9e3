"""The timings of a runtime's services, as one value."""

from __future__ import annotations

import msgspec

from rail_async_tasks.runtime.attempts.timings import ATTEMPT_TIMINGS, AttemptTimings
from rail_async_tasks.runtime.claims.broker_dispatcher import BrokerTimings
from rail_async_tasks.runtime.claims.inventory import InventoryTimings
from rail_async_tasks.runtime.claims.local_dispatcher import LocalTimings
from rail_async_tasks.runtime.creations import CREATION_TIMINGS, CreationTimings
from rail_async_tasks.runtime.ending import END_TIMINGS, EndTimings
from rail_async_tasks.runtime.failure_callbacks import CALLBACK_LIMITS, CallbackLimits
from rail_async_tasks.runtime.upkeep.cleanup import CleanupTimings
from rail_async_tasks.runtime.upkeep.reconciler import ReconcilerTimings
from rail_async_tasks.runtime.upkeep.rollup_writer import RollupTimings
from rail_async_tasks.runtime.upkeep.scheduler import SchedulerTimings


class RuntimeTimings(msgspec.Struct, frozen=True, kw_only=True):
    """See each service for the meaning and the unit of its timings."""

    creations: CreationTimings = CREATION_TIMINGS
    attempts: AttemptTimings = ATTEMPT_TIMINGS
    callbacks: CallbackLimits = CALLBACK_LIMITS
    end: EndTimings = END_TIMINGS
    local: LocalTimings = LocalTimings()
    broker: BrokerTimings = BrokerTimings()
    inventory: InventoryTimings = InventoryTimings()
    reconciler: ReconcilerTimings = ReconcilerTimings()
    cleanup: CleanupTimings = CleanupTimings()
    scheduler: SchedulerTimings = SchedulerTimings()
    rollups: RollupTimings = RollupTimings()
