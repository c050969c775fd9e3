"""The runtime: its services start together, and all steps of the end are taken."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest

from rail_async_tasks.bus.memory import MemoryBus
from rail_async_tasks.conf import TaskSettings
from rail_async_tasks.ledger.memory.ledger import MemoryLedger
from rail_async_tasks.registry import Registry
from rail_async_tasks.runtime.ending import EndTimings
from rail_async_tasks.runtime.inline import InlineRun
from rail_async_tasks.runtime.runtime import Runtime
from rail_async_tasks.runtime.timings import RuntimeTimings
from rail_async_tasks.runtime.upkeep.lease_thread import LeaseThread
from tests.runtime.fakes import ListBroker, MemoryDispatches, MemoryLeases
from tests.support.clock import FakeClock
from tests.support.ledgers import new_execution
from tests.support.waiting import TIMEOUT


class SilentLedger(MemoryLedger):
    """A database that is away: no creation is answered, and a stop waits for it."""

    async def stop(self) -> None:
        await asyncio.Event().wait()

    def create(self, new: Any, done: Any) -> None:
        """Never calls `done`."""


class SharedLedger(MemoryLedger):
    """Rows that a broker's workers run, under leases."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(now=clock.now)
        self.its_dispatches = MemoryDispatches(self, clock)
        self.its_leases = MemoryLeases(clock)
        self.stopped = False

    def dispatches(self) -> Any:
        return self.its_dispatches

    def leases(self) -> Any:
        return self.its_leases

    async def stop(self) -> None:
        self.stopped = True


async def test_an_end_that_is_cancelled_waits_for_no_later_step(registry: Registry) -> None:
    """The loop cancels its tasks when it closes: a database that is away must not hold it up."""
    ledger = SilentLedger()
    timings = RuntimeTimings(end=EndTimings(flush_timeout=0.01))
    runtime = Runtime(TaskSettings(), registry, ledger, MemoryBus(), timings=timings)
    runtime.start()
    await runtime.ready()
    caller = asyncio.create_task(runtime.creations.create(new_execution(name="echo")))
    await asyncio.sleep(0)
    await runtime.stop()
    assert runtime.alive  # it waits for the creation
    assert runtime.state.host is not None
    runtime.state.host.cancel()
    await asyncio.wait_for(runtime.closed(), TIMEOUT)
    caller.cancel()


@pytest.mark.parametrize("part", ["ledger", "bus", "watchdog", "lease"])
async def test_a_start_that_fails_is_undone(
    part: str, clock: FakeClock, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever part does not start, each step of the end is taken, and none waits."""
    ledger, bus, broker = SharedLedger(clock), MemoryBus(), ListBroker()
    runtime = Runtime(TaskSettings(), registry, ledger, bus, broker=broker)
    owner = {
        "ledger": ledger, "bus": bus,
        "watchdog": runtime.services.watchdog, "lease": LeaseThread,
    }[part]  # fmt: skip
    monkeypatch.setattr(owner, "start", _refuse)
    with pytest.raises(RuntimeError, match="can't start"):
        runtime.start()
    monkeypatch.undo()
    await clock.settle()
    assert not runtime.alive
    assert (ledger.stopped, broker.closed) == (True, 1)


def _refuse(*_: Any, **__: Any) -> None:
    raise RuntimeError("can't start new thread")


def test_an_inline_run_is_freed_at_once(registry: Registry) -> None:
    """One is made for each call: the garbage collector must not have to find it."""
    gc.disable()
    try:
        run = InlineRun(TaskSettings(backend="sync"), registry, MemoryLedger(), MemoryBus())
        freed = weakref.ref(run)
        del run
        assert freed() is None
    finally:
        gc.enable()
