"""Makes the ledger, the bus and the runtime of a process, of the kinds that the settings name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rail_async_tasks.backends import find_broker
from rail_async_tasks.bus.memory import MemoryBus
from rail_async_tasks.bus.port import Bus
from rail_async_tasks.conf import TaskSettings, get_settings
from rail_async_tasks.hosting.no_runtime import is_forbidden
from rail_async_tasks.ledger.options import LedgerOptions
from rail_async_tasks.ledger.port import Ledger
from rail_async_tasks.registry import registry

if TYPE_CHECKING:
    from rail_async_tasks.runtime.runtime import Runtime


def make_ledger() -> Ledger:
    """Returns another ledger."""
    if not get_settings().track_in_database:
        from rail_async_tasks.ledger.memory.ledger import MemoryLedger

        return MemoryLedger()
    # Models exist only once the apps are loaded.
    from rail_async_tasks.ledger.orm.ledger import OrmLedger

    return OrmLedger(options=lambda: LedgerOptions.of(get_settings()))


def make_bus() -> Bus:
    """Returns another bus."""
    settings = get_settings()
    if settings.bus == "memory" or settings.redis_url is None or is_forbidden():
        return MemoryBus()
    from rail_async_tasks.bus.redis import RedisBus  # needs redis-py

    return RedisBus(settings.redis_url, settings.subscription_channel)


def make_runtime(settings: TaskSettings, ledger: Ledger, bus: Bus, **options: Any) -> Runtime:
    """Returns a runtime that has not started. `options` are keywords of `Runtime`."""
    # A command that runs no task starts sooner without it.
    from rail_async_tasks.runtime.runtime import Runtime

    return Runtime(settings, registry, ledger, bus, broker=find_broker(settings), **options)
