"""The runtime of a process: builds its services, runs them on one loop, and ends them in order."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Sequence
from uuid import UUID

import anyio

from rail_async_tasks.bus.port import Bus
from rail_async_tasks.conf import TaskSettings
from rail_async_tasks.ledger.port import Ledger
from rail_async_tasks.registry import Registry
from rail_async_tasks.runtime.admission import Admission
from rail_async_tasks.runtime.attempts.attempt import Attempt
from rail_async_tasks.runtime.attempts.outcomes import Interruption
from rail_async_tasks.runtime.claims.broker import Broker
from rail_async_tasks.runtime.claims.broker_dispatcher import BrokerDispatcher
from rail_async_tasks.runtime.services import Services
from rail_async_tasks.runtime.timings import RuntimeTimings
from rail_async_tasks.runtime.upkeep.supervision import supervise
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.text import counted

logger = get_logger("rail_async_tasks.runtime")


class Runtime:
    """One per process, on one event loop. `start` and `stop` it there; see `hosting.process`."""

    def __init__(
        self,
        settings: TaskSettings,
        registry: Registry,
        ledger: Ledger,
        bus: Bus,
        *,
        concurrency: int | None = None,
        admission: Admission | None = None,
        broker: Broker | None = None,
        timings: RuntimeTimings | None = None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.settings = settings
        self.registry = registry
        self.ledger = ledger
        self.bus = bus
        timings = timings or RuntimeTimings()
        self._timings = timings.end
        self.services = services = Services(
            settings=settings, registry=registry, ledger=ledger, bus=bus, broker=broker,
            concurrency=concurrency, admission=admission or Admission(ledger), broke=self.broke,
            timings=timings,
        )  # fmt: skip
        self.state = services.state
        self.slots = services.slots
        self.running = services.running
        self.creations = services.creations
        self.deliveries = services.deliveries
        self.recoverer = services.upkeep.recoverer
        self.callbacks = services.callbacks
        self._stack = contextlib.AsyncExitStack()
        self._ready = asyncio.Event()
        self._drained = asyncio.Event()
        self._stop = asyncio.Event()
        self._broken: asyncio.Future[None] = self.loop.create_future()

    # --- start -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Starts threads and the host task; `ready` returns once executions may be created.

        Raises the error that keeps a service from starting. What has been started then ends soon,
        after which `alive` is false and another runtime may start.
        """
        main = self._main
        try:
            self.services.open(self._stack)
        except BaseException as error:
            self.state.draining, main = True, self._close
            self.state.fail(error)
            for event in (self._ready, self._drained):
                event.set()
            self._broken.set_result(None)
            raise
        finally:
            # A clean context: one inherited from a request would give every ORM call after the
            # request's end a thread and a connection of its own.
            host = self.state.host = self.loop.create_task(
                main(), name="rail-tasks-host", context=contextvars.Context()
            )
            host.add_done_callback(_retrieve)  # it has been logged

    async def ready(self) -> None:
        """Returns when executions may be created.

        Raises:
            BackendUnavailable: the runtime has ended by an error before.
        """
        await self._ready.wait()
        if self.state.fault is not None:
            raise self.state.refusal()

    @property
    def is_ready(self) -> bool:
        """Returns whether `ready` would return at once."""
        return self._ready.is_set() and self.state.fault is None

    @property
    def alive(self) -> bool:
        """Returns whether its loop runs and its host task has not ended."""
        host = self.state.host
        return not self.loop.is_closed() and host is not None and not host.done()

    def broke(self, part: str, error: BaseException) -> None:
        """An error has ended a thread without which nothing works: the runtime ends too."""
        self.state.fail(error)
        if not self._broken.done():
            self._broken.set_exception(RuntimeError(f"The thread {part} has ended: {error!r:.200}"))

    # --- the host task ---------------------------------------------------------------------------

    async def _main(self) -> None:
        ending = asyncio.Event()
        try:
            async with anyio.create_task_group() as group:
                self.state.scope = group.cancel_scope
                for name, loop in self.services.loops():
                    group.start_soon(supervise, name, loop, ending)
                group.start_soon(self._raise_if_broken)
                self._ready.set()
                try:
                    await self._stop.wait()
                finally:
                    ending.set()
                    self._end_services()
        except Exception as error:
            logger.critical("The runtime broke. What it ran goes on elsewhere", exc_info=True)
            self.state.fail(error)
            raise
        finally:
            self.state.draining = True
            self._ready.set()
            await self._close()

    async def _raise_if_broken(self) -> None:
        await self._broken

    def _end_services(self) -> None:
        """Ends the services' loops, after `stop` or an error, or as the event loop is shut down.

        Without `stop` running bodies are handed back. Under a server whose loop is shut down
        without a drain they are abandoned instead: their outcomes are not stored.
        """
        state = self.state
        state.abandoned = state.is_cut_off
        state.draining = True  # nothing may start any more
        self._drained.set()
        self.services.due.wake()
        self.services.upkeep.stop()
        self.services.notices.stop()
        if not self._broken.done():
            self._broken.set_result(None)
        if state.abandoned:
            logger.critical("Something has ended the server's loop without a drain")
        elif not self._stop.is_set():
            self.running.interrupt_all(Interruption.HAND_BACK)

    async def _close(self) -> None:
        """Waits for bodies that were asked to end, writes what is left, gives threads back."""
        with anyio.CancelScope(shield=True):
            await self._stack.aclose()

    # --- end -------------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Ends claims and streams; running bodies get `drain_seconds`, then are handed back.

        A second call waits for the first.
        """
        if self.state.draining:
            await self._drained.wait()
            return
        self.state.draining = True
        self.bus.close_mailboxes()
        self.services.due.wake()
        if self.deliveries is not None:
            self.deliveries.notice()
        try:
            await self.services.ending.hand_back()
        finally:
            self._drained.set()

    def hurry(self) -> None:
        """Has the drain, begun or to come, hand running bodies back at once."""
        self.services.ending.hurry()

    async def stop(self) -> None:
        """Drains, flushes and ends. Safe to call twice."""
        await self.drain()
        self._stop.set()
        if self.state.host is None:
            return
        if self.slots.leaked:
            bodies = counted(self.slots.leaked, "body", "bodies")
            logger.error("%s left behind, given up before", bodies)
        timeout = self._timings.flush_timeout
        await asyncio.wait([self.state.host], timeout=timeout)
        if not self.state.host.done():
            logger.error(
                "%s could not be written in %g s: the database does not answer",
                counted(self.services.outstanding.outcomes, "outcome"), timeout,
            )  # fmt: skip

    async def closed(self) -> None:
        """Returns when threads and connections have been given back."""
        if self.state.host is not None:
            await asyncio.wait({self.state.host})

    # --- for backends, workers and the service ---------------------------------------------------

    @property
    def attempts(self) -> dict[UUID, Attempt]:
        """The attempts whose outcome is not stored yet, by execution id."""
        return self.running.by_id

    async def caught_up(self) -> None:
        """Returns when all that waits and finds a free slot has begun; soon, in any case."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.services.due.caught_up(), self._timings.catch_up_timeout)

    def queues_changed(self) -> None:
        """A queue was paused or resumed: heeds that at once."""
        self.services.queues_changed()

    async def send_waiting(self, queues: Sequence[str]) -> bool:
        """Sends waiting executions of these queues to workers; False where the broker is away."""
        assert isinstance(self.services.dispatcher, BrokerDispatcher), "only a broker is sent to"
        return await self.services.dispatcher.send_all(queues)

    # --- for operators ---------------------------------------------------------------------------

    @property
    def id(self) -> UUID:
        return self.state.id

    @property
    def holding(self) -> bool:
        return self.state.holding

    @property
    def draining(self) -> bool:
        return self.state.draining

    @property
    def fences(self) -> int:
        """Leases that were lost."""
        return self.state.fences

    @property
    def recovered(self) -> int:
        """Executions that were taken over from dead processes."""
        return 0 if self.recoverer is None else self.recoverer.recovered

    @property
    def paused_queues(self) -> list[str]:
        """The paused queues, as this process knows them."""
        return sorted(self.slots.paused)

    @property
    def failing_schedules(self) -> list[str]:
        """The tasks that their schedules could not start at their last try."""
        return self.services.upkeep.scheduler.failing

    @property
    def blocked(self) -> int:
        """Counts how often something held the event loop for over a second."""
        return self.services.watchdog.blocked

    def statistics(self) -> dict[str, int]:
        """Returns counts of what this process does and has done."""
        return {
            "running": self.slots.running,
            "leaked": self.slots.leaked,
            "unsettled": self.services.outstanding.outcomes,
            "blocked": self.blocked,
            "fences": self.fences,
            "recovered": self.recovered,
            **({} if self.deliveries is None else {"refused": self.deliveries.dropped}),
            **self.bus.statistics(),
        }


def _retrieve(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()
