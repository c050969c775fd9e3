"""Makes the runtime of a process. Imports it then: a command that runs no task starts sooner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rail_async_tasks.backends import find_broker
from rail_async_tasks.conf import TaskSettings
from rail_async_tasks.registry import registry

if TYPE_CHECKING:
    from rail_async_tasks.bus.port import Bus
    from rail_async_tasks.ledger.port import Ledger
    from rail_async_tasks.runtime.runtime import Runtime


def new_runtime(settings: TaskSettings, ledger: Ledger, bus: Bus, **options: Any) -> Runtime:
    """Returns a runtime that has not started. `options` are keywords of `Runtime`."""
    from rail_async_tasks.runtime.runtime import Runtime

    return Runtime(settings, registry, ledger, bus, broker=find_broker(settings), **options)
