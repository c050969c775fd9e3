"""What every backend has whose tasks run in worker processes: arq, Celery, Dramatiq, Django-Q.

A process stores executions and sends their ids; a worker gets an id, claims the row and runs it in
the same runtime as everywhere else. A broker needs to carry ids only, and may lose or double them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from typing import Any, ClassVar

from django.core.checks import CheckMessage

from rail_async_tasks.backends.in_process import InProcessBackend
from rail_async_tasks.backends.port import Capabilities
from rail_async_tasks.hosting import process as host
from rail_async_tasks.ids import parse_id
from rail_async_tasks.ledger.records import Dispatch
from rail_async_tasks.runtime.attempts.threads import DaemonThreads
from rail_async_tasks.runtime.claims.deliveries import Deliveries
from rail_async_tasks.runtime.runtime import Runtime
from rail_async_tasks.safe_logging import get_logger

logger = get_logger("rail_async_tasks.backends")


class BrokerBackend(InProcessBackend):
    """Base of the backends that send ids to workers. A subclass says how to `push`.

    `name` is what the `backend` setting has, for rows and logs to tell: the dotted path of the
    class, where it says nothing else. See `port.Backend` for the rest, and
    `docs/backends/writing-one.md` for how to write one.
    """

    name: ClassVar[str] = ""
    capabilities = Capabilities(priority=False, queue_priority=False, queue_concurrency=False)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if not cls.__dict__.get("name"):
            cls.name = f"{cls.__module__}.{cls.__qualname__}"

    async def push(self, dispatches: Sequence[Dispatch]) -> None:
        """Hands the ids to the broker, to be delivered to one worker each. See `brokers.Broker`."""
        raise NotImplementedError(f"{type(self).__name__}.push")

    def declare(self) -> None:
        """Called once the apps are ready and tasks known: makes what workers look up by name.

        Nothing may be connected to here: it is called in every process of the project.
        """

    def check(self) -> Iterable[CheckMessage]:
        """What the project has set up in a way that this can't work with, for the system checks."""
        return ()

    async def aclose(self) -> None:
        """Gives connections back; nothing, where there are none."""


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
        # Nobody waits for it: it may still wait for the broker. The next runtime has another.
        threads, self._threads, self._pushing = self._threads, self._one_thread(), None
        threads.submit(self.disconnect_here)
        threads.shutdown()

    async def push(self, dispatches: Sequence[Dispatch]) -> None:
        if self._pushing is not None and not self._pushing.done():
            # A client that hangs must not gather a queue of its own: the rows are the queue.
            raise TimeoutError(f"The client of {self.name} still waits for its broker.")
        self._pushing = self._threads.submit(self.push_here, dispatches)
        await asyncio.wrap_future(self._pushing)


# --- in a worker ---------------------------------------------------------------------------------


def deliver(execution_id: Any) -> None:
    """Runs the next attempt of an execution that a broker has brought; returns at its end.

    For a worker's own thread or process: the attempt runs on the runtime's loop, which is started
    by the first one. What is no id, or is not this worker's to run, is logged and dropped. Raises
    nothing that a broker would retry: the row says what comes next.
    """
    runtime = host.runtime_in_thread()
    deliveries = _deliveries(runtime)
    parsed = _checked(execution_id)
    if deliveries is not None and parsed is not None:
        host.from_thread(runtime, deliveries.attempt(parsed))


async def adeliver(execution_id: Any) -> None:
    """`deliver` on the loop of a worker that is async itself, which hosts the runtime."""
    runtime = await host.aruntime()
    deliveries = _deliveries(runtime)
    parsed = _checked(execution_id)
    if deliveries is not None and parsed is not None:
        await host.across(runtime, deliveries.attempt(parsed))


def begin_drain() -> None:
    """A worker is told to stop: what runs in it gets `drain_seconds`. Returns at once.

    From any thread, and from a signal handler. `deliver` then returns when an attempt has ended or
    is handed back; what is brought later is left to others.
    """
    global _drain
    runtime = host.current()
    if runtime is not None and not runtime.draining:
        _drain = asyncio.run_coroutine_threadsafe(runtime.drain(), runtime.loop)


_drain: Future[None] | None = None  # kept, or it might be collected on its way


def _checked(execution_id: Any) -> Any:
    parsed = parse_id(execution_id) if isinstance(execution_id, str) else None
    if parsed is None:
        # Whoever may write to the broker may write anything; an id is all that is taken from it.
        logger.warning("A broker has brought %.80r, which is no task's id; it is dropped",
                       execution_id)  # fmt: skip
    return parsed


def _deliveries(runtime: Runtime) -> Deliveries | None:
    if runtime.deliveries is None:
        logger.error(
            'A broker has brought a task to a process whose setting "backend" names no broker;'
            " it is left to others."
        )
    return runtime.deliveries
