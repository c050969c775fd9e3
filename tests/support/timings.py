"""Timings of the runtimes that a test starts: handed in, so that no test waits for long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from rail_async_tasks.runtime.timings import RuntimeTimings


class Timings:
    """Changes timings of runtimes that start later in this process. The fixture is `timings`."""

    def __init__(self) -> None:
        # Imported late: pytest imports this module before Django's apps are ready.
        from rail_async_tasks.hosting import process
        from rail_async_tasks.runtime.timings import RuntimeTimings

        self._process = process
        self.value: RuntimeTimings = RuntimeTimings()

    def set(self, service: str, **fields: Any) -> None:
        """Changes fields of one service: `timings.set("reconciler", interval=0.02)`."""
        changed = msgspec.structs.replace(getattr(self.value, service), **fields)
        self.value = msgspec.structs.replace(self.value, **{service: changed})
        self._process.use_timings(self.value)

    def reset(self) -> None:
        """Gives later runtimes the timings that they have in production."""
        self._process.use_timings(type(self.value)())
