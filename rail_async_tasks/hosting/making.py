"""Makes the ledger and the bus of the kinds that the settings name."""

from __future__ import annotations

from rail_async_tasks.bus.memory import MemoryBus
from rail_async_tasks.bus.port import Bus
from rail_async_tasks.conf import get_settings
from rail_async_tasks.hosting.no_runtime import is_forbidden
from rail_async_tasks.ledger.memory.ledger import MemoryLedger
from rail_async_tasks.ledger.options import LedgerOptions
from rail_async_tasks.ledger.port import Ledger


def make_ledger() -> Ledger:
    """Makes a ledger of the kind that the settings name."""
    if not get_settings().track_in_database:
        return MemoryLedger()
    # Models exist only once the apps are loaded.
    from rail_async_tasks.ledger.orm.ledger import OrmLedger

    return OrmLedger(options=lambda: LedgerOptions.of(get_settings()))


def make_bus() -> Bus:
    """Makes a bus of the kind that the settings name."""
    settings = get_settings()
    if settings.bus == "memory" or settings.redis_url is None or is_forbidden():
        return MemoryBus()
    from rail_async_tasks.bus.redis import RedisBus  # needs redis-py

    return RedisBus(settings.redis_url, settings.subscription_channel)
