"""The backends without a broker: `asyncio`, `thread` and `sync`."""

from __future__ import annotations

from rail_async_tasks.backends.port import Capabilities


class AsyncioBackend:
    """The runtime of this process, in the loop of the server or script that starts first."""

    inline = False
    own_thread = False
    capabilities = Capabilities()


class ThreadBackend(AsyncioBackend):
    """The same runtime in a loop thread of its own, `max_workers` tasks at once."""

    own_thread = True


class SyncBackend:
    """Every attempt runs in the caller: for tests, scripts and debugging."""

    inline = True
    own_thread = False
    # Nothing waits, so no task runs out of turn.
    capabilities = Capabilities(cancel_running=False)
