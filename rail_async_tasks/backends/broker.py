"""Base of the backends whose tasks run in worker processes: arq, Celery, Dramatiq, Django-Q.

A process stores executions and sends their ids; a worker gets an id, claims the row and runs it in
the same runtime as everywhere else. A broker needs to carry ids only, and may lose or double them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from typing import Any, ClassVar

from django.core.checks import CheckMessage

from rail_async_tasks.backends.port import Capabilities
from rail_async_tasks.ledger.dispatch_records import Dispatch
from rail_async_tasks.runtime.attempts.threads import DaemonThreads


class BrokerBackend:
    """Base of the backends that send ids to workers. A subclass writes `push`.

    `name` is stored in rows and logged: the value of the `backend` setting, which is the dotted
    path of the class unless the class sets another one. See `port.Backend` for the other
    attributes, and `docs/backends/writing-one.md` for how to write a backend.

    `broker_setting` names the setting that has the broker's address, `worker_command` the command
    that starts a worker: `tasks doctor` names them where the broker or the workers are missing.
    """

    name: ClassVar[str] = ""
    broker_setting: ClassVar[str] = "the settings of the backend's framework"
    worker_command: ClassVar[str] = ""
    inline = False
    own_thread = False
    capabilities = Capabilities(priority=False, queue_priority=False, queue_concurrency=False)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if not cls.__dict__.get("name"):
            cls.name = f"{cls.__module__}.{cls.__qualname__}"

    async def push(self, dispatches: Sequence[Dispatch]) -> None:
        """Hand the ids to the broker, each to be delivered to one worker. See `Broker`."""
        raise NotImplementedError(f"{type(self).__name__}.push")

    def declare(self) -> None:
        """Called in every process once the apps are ready and tasks known. Must not connect."""

    def check(self) -> Iterable[CheckMessage]:
        """Yield, for the system checks, each part of the project's setup that cannot work."""
        return ()

    async def aclose(self) -> None:
        """Give connections back, if there are any."""


class ThreadedBrokerBackend(BrokerBackend):
    """For brokers whose clients block: `push_here` runs in a thread that does nothing else."""

    def __init__(self) -> None:
        self._threads = self._one_thread()
        self._pushing: Future[None] | None = None

    def _one_thread(self) -> DaemonThreads:
        return DaemonThreads(f"rail-tasks-{self.name}", limit=1)

    def push_here(self, dispatches: Sequence[Dispatch]) -> None:
        """`push`, in a thread."""
        raise NotImplementedError(f"{type(self).__name__}.push_here")

    def disconnect_here(self) -> None:
        """`aclose`, in that thread; its connections to databases are given back in any case."""

    async def aclose(self) -> None:
        # Not awaited: the thread may still wait for the broker. The next runtime has another one.
        threads, self._threads, self._pushing = self._threads, self._one_thread(), None
        threads.submit(self.disconnect_here)
        threads.shutdown()

    async def push(self, dispatches: Sequence[Dispatch]) -> None:
        if self._pushing is not None and not self._pushing.done():
            # A client that hangs must not gather a queue of its own: the rows are the queue.
            raise TimeoutError(f"The client of {self.name} still waits for its broker.")
        self._pushing = self._threads.submit(self.push_here, dispatches)
        await asyncio.wrap_future(self._pushing)
