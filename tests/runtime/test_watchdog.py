"""The watchdog: a blocked loop is named while it is blocked. Here the test blocks it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from rail_async_tasks.runtime.upkeep.watchdog import Watchdog
from tests.support.clock import FakeClock
from tests.support.waiting import eventually


def name_of(task: asyncio.Task[Any]) -> str:
    return "the task shop.report"


@pytest.fixture
async def watchdog(clock: FakeClock) -> Watchdog:
    watchdog = Watchdog(name_of, clock=clock.monotonic)
    watchdog.ask()
    await clock.settle()
    watchdog.look()
    return watchdog


async def test_a_loop_that_ticks_is_left_alone(watchdog: Watchdog, clock: FakeClock) -> None:
    """However long it runs."""
    for _ in range(30):
        await clock.advance(0.5)
        assert watchdog.look()
    assert watchdog.blocked == 0


async def test_a_block_is_reported_once_with_its_place(
    watchdog: Watchdog, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The line names the task and the line of code at which the loop stands."""
    clock.jump(0.8)
    watchdog.look()
    assert caplog.text == ""
    clock.jump(0.2)
    for _ in range(3):
        watchdog.look()
    assert watchdog.blocked == 1
    (record,) = caplog.records
    message = record.getMessage()
    assert "blocked for 1.0 s by the task shop.report" in message
    assert "test_watchdog.py" in message


async def test_the_end_of_a_block_is_reported(
    watchdog: Watchdog, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """With its length; the next block counts anew."""
    watchdog.look()  # asks for a sign of life, which the block holds up
    clock.jump(2.0)
    watchdog.look()
    await clock.settle()
    watchdog.look()
    assert "The event loop goes on after 2.0 s" in caplog.text
    clock.jump(2.0)
    watchdog.look()
    assert watchdog.blocked == 2


async def test_the_lag_is_the_time_since_the_last_tick(
    watchdog: Watchdog, clock: FakeClock
) -> None:
    """The lease reads it."""
    watchdog.look()
    clock.jump(3.0)
    assert watchdog.lag == 3.0
    await clock.settle()
    assert watchdog.lag == 0.0


async def test_a_name_that_can_not_be_had_does_not_end_it(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A task's name is found by the project's own objects."""

    def fails(task: asyncio.Task[Any]) -> str:
        raise ValueError("odd")

    watchdog = Watchdog(fails, clock=clock.monotonic)
    clock.jump(1.0)
    assert watchdog.look()
    assert watchdog.blocked == 1
    assert "The event loop has been blocked for 1.0 s" in caplog.text


def test_a_closed_loop_ends_it() -> None:
    """There is nothing to watch any more."""

    async def make() -> Watchdog:
        return Watchdog(name_of)

    watchdog = asyncio.run(make())
    assert watchdog.ask() is False


async def test_a_quiet_loop_is_asked_seldom_until_a_body_begins() -> None:
    """Then at once, and often: a body that blocks from its first line must be named."""
    quiet = True
    watchdog = Watchdog(name_of, quiet=lambda: quiet, quiet_tick=3600.0)
    watchdog.start()
    try:
        await eventually(lambda: watchdog.answers == 1)  # the first question
        quiet = False
        watchdog.alert()
        await eventually(lambda: watchdog.answers >= 4)
    finally:
        watchdog.stop()
