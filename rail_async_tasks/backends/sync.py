"""The `sync` backend: for tests, scripts and debugging. Every attempt runs in the caller."""

from __future__ import annotations

from uuid import UUID

from asgiref.sync import sync_to_async

from rail_async_tasks.backends.port import Capabilities
from rail_async_tasks.conf import get_settings
from rail_async_tasks.definition import registry
from rail_async_tasks.hooks import contained
from rail_async_tasks.hosting import process as host
from rail_async_tasks.ledger.records import Created, NewExecution
from rail_async_tasks.runtime.inline import InlineRun
from rail_async_tasks.snapshot import TaskSnapshot


class SyncBackend:
    """See `port.Backend`."""

    inline = True
    # Nothing waits, so nothing is behind its turn.
    capabilities = Capabilities(cancel_running=False)

    async def asubmit(self, new: NewExecution) -> TaskSnapshot:
        return await sync_to_async(contained(self.submit))(new)

    def submit(self, new: NewExecution) -> TaskSnapshot:
        run = InlineRun(get_settings(), registry, host.ledger(), host.bus())
        return run.create(new)

    def arrived(self, new: NewExecution, created: Created) -> None:
        """Never called: an inline backend inserts its own rows."""

    def cancel(self, execution_id: UUID) -> None:
        """Nothing runs while anybody could ask."""
