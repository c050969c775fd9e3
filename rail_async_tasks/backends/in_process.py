"""The `asyncio` and `thread` backends: the runtime of this process, wherever it is hosted."""

from __future__ import annotations

import asyncio
from uuid import UUID

from rail_async_tasks.backends.port import Capabilities
from rail_async_tasks.hosting import process as host
from rail_async_tasks.ledger.records import Created, NewExecution
from rail_async_tasks.snapshot import TaskSnapshot


class InProcessBackend:
    """See `port.Backend`."""

    inline = False
    capabilities = Capabilities()
    own_thread = False  # else in the loop of whoever comes first: the server, or a script

    async def asubmit(self, new: NewExecution) -> TaskSnapshot:
        runtime = host.current()
        if runtime is None or runtime.loop is not asyncio.get_running_loop():
            runtime = await host.aruntime(in_thread=self.own_thread)
            return await host.across(runtime, runtime.create(new))
        return await runtime.create(new)

    def submit(self, new: NewExecution) -> TaskSnapshot:
        runtime = host.runtime_in_thread()
        return host.from_thread(runtime, runtime.create(new))

    def arrived(self, new: NewExecution, created: Created) -> None:
        runtime = host.runtime_in_thread()
        host.call_soon(runtime, lambda: runtime.arrived(new, created))

    def cancel(self, execution_id: UUID) -> None:
        runtime = host.current()
        if runtime is not None:
            host.call_soon(runtime, lambda: runtime.cancel(execution_id))


class AsyncioBackend(InProcessBackend):
    """Coroutines in the server's loop."""


class ThreadBackend(InProcessBackend):
    """The same runtime in a loop thread of its own, `max_workers` tasks at once."""

    own_thread = True
