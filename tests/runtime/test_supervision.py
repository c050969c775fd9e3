"""Supervision: a service that fails starts again, until the runtime ends."""

from __future__ import annotations

import asyncio

import pytest

from rail_async_tasks.runtime.upkeep.supervision import supervise
from tests.support.clock import FakeClock


class Service:
    """Fails while it has errors, after so many seconds; then it returns."""

    def __init__(self, *errors: Exception, seconds: float = 0.0) -> None:
        self.errors = list(errors)
        self.seconds = seconds
        self.starts: list[float] = []

    async def run(self) -> None:
        self.starts.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.seconds)
        if self.errors:
            raise self.errors.pop(0)


async def test_a_service_that_fails_starts_again_until_it_returns(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """After growing pauses; an ERROR with the traceback names it once."""
    service = Service(*[ValueError("odd")] * 4)
    task = asyncio.create_task(supervise("clean-up", service.run, asyncio.Event(), clock.monotonic))
    await clock.advance(10)
    assert task.done()
    assert len(service.starts) == 5
    first, *_, last = [b - a for a, b in zip(service.starts, service.starts[1:], strict=False)]
    assert 0 < first <= 0.1
    assert 0.4 <= last <= 0.8
    (record,) = [it for it in caplog.records if it.levelname == "ERROR"]
    assert record.getMessage().startswith("The clean-up failed: odd.")
    assert record.exc_info


async def test_one_that_ran_well_meanwhile_starts_again_soon(clock: FakeClock) -> None:
    """Its failures are not in a row."""
    service = Service(*[ValueError("odd")] * 6, seconds=60.0)
    task = asyncio.create_task(
        supervise("scheduler", service.run, asyncio.Event(), clock.monotonic)
    )
    await clock.advance(500)
    assert task.done()
    pauses = [b - a - 60.0 for a, b in zip(service.starts, service.starts[1:], strict=False)]
    assert all(pause <= 0.1 + 1e-6 for pause in pauses)


async def test_the_end_of_the_runtime_starts_nothing_again(clock: FakeClock) -> None:
    """Also in the middle of a pause."""
    service, ending = Service(*[ValueError("odd")] * 9), asyncio.Event()
    task = asyncio.create_task(supervise("dispatcher", service.run, ending, clock.monotonic))
    await clock.settle()
    ending.set()
    await clock.settle()
    assert task.done()
    assert len(service.starts) == 1


async def test_a_cancel_is_no_failure(clock: FakeClock) -> None:
    """It ends the service and its supervision."""
    service = Service(seconds=3600.0)
    task = asyncio.create_task(
        supervise("dispatcher", service.run, asyncio.Event(), clock.monotonic)
    )
    await clock.settle()
    task.cancel()
    await clock.settle()
    assert task.cancelled()
    assert len(service.starts) == 1
