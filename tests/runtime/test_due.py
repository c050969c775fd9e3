"""Due rows, and the wake-up of the dispatcher."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from rail_async_tasks.runtime.due import Due
from rail_async_tasks.runtime.state import RuntimeState
from tests.support.clock import FakeClock


class Counted(Due):
    """Counts expected rows; every look at all queues finds one more if there are `hidden` ones."""

    def __init__(self, *, state: RuntimeState, hidden: bool = False) -> None:
        super().__init__(state=state, poll_seconds=10.0, longest_poll=lambda: 35.0)
        self.rows = 0
        self.looks = 0
        self.hidden = hidden
        self.allowed = True

    def expect(self, name: str, queue: str) -> None:
        self.rows += 1
        self.wake()

    def slot_freed(self, queue: str) -> None:
        self.wake()

    def expect_all(self) -> None:
        self.looks += 1
        self.rows += self.hidden

    def expect_in(self, queue: str) -> None:
        self.rows += 1

    @property
    def any_due(self) -> bool:
        return self.rows > 0

    @property
    def may_act(self) -> bool:
        return self.allowed


@pytest.fixture
def state() -> RuntimeState:
    return RuntimeState()


@pytest.fixture
async def due(clock: FakeClock, state: RuntimeState) -> Counted:
    return Counted(state=state)


@contextmanager
def waiting(due: Counted) -> Iterator[asyncio.Future[None]]:
    """A dispatcher that waits for work."""
    waiter = asyncio.ensure_future(due.until_needed())
    try:
        yield waiter
    finally:
        waiter.cancel()


async def test_an_expected_row_wakes_at_once(clock: FakeClock, due: Counted) -> None:
    """No time passes."""
    with waiting(due) as waiter:
        await clock.settle()
        assert not waiter.done()
        due.expect("a", "default")
        await clock.settle()
        assert waiter.done()


async def test_a_row_that_comes_due_wakes_in_its_time(clock: FakeClock, due: Counted) -> None:
    """Then, and not before, all queues are looked into."""
    due.hidden = True
    with waiting(due) as waiter:
        due.due_in(4.0)
        await clock.advance(3.9)
        assert (waiter.done(), due.looks) == (False, 0)
        await clock.advance(0.2)
        assert (waiter.done(), due.looks) == (True, 1)


async def test_the_earliest_of_several_times_counts(clock: FakeClock, due: Counted) -> None:
    """A later one does not put it off."""
    due.hidden = True
    due.due_in(2.0)
    due.due_in(6.0)
    with waiting(due) as waiter:
        await clock.advance(2.1)
        assert waiter.done()


async def pause_before_survey(clock: FakeClock, due: Counted) -> float:
    """Returns the seconds until the dispatcher is to survey the ledger."""
    seconds = 0.0
    with waiting(due) as waiter:
        await clock.settle()
        while not waiter.done():
            assert not due.needs_survey
            await clock.advance(5.0)
            seconds += 5.0
    assert due.needs_survey
    return seconds


def survey(due: Counted, *, found: bool) -> None:
    with due.surveying():
        pass
    due.surveyed(found=found)


async def test_surveys_that_find_nothing_come_more_and_more_seldom(
    clock: FakeClock, due: Counted
) -> None:
    """Up to the longest pause. One that finds something is repeated soon."""
    pauses = []
    for found in (False, False, False, True, False):
        pauses.append(await pause_before_survey(clock, due))
        survey(due, found=found)
    assert pauses == [10.0, 20.0, 35.0, 35.0, 10.0]


async def test_what_is_announced_during_a_survey_takes_another(due: Counted) -> None:
    """The first one may have read before the row was committed."""
    due.survey_now()
    with due.surveying():
        due.survey_now()
    due.surveyed(found=False)
    assert due.needs_survey


async def test_a_survey_that_fails_is_still_to_be_made(due: Counted) -> None:
    """As soon as the dispatcher tries again."""
    due.survey_now()
    with pytest.raises(OSError, match="away"), due.surveying():
        raise OSError("The database is away.")
    assert due.needs_survey


async def test_a_survey_comes_soon_after_a_claim(clock: FakeClock, due: Counted) -> None:
    """A row that was locked then is found a moment after it is free."""
    for _ in range(3):
        await pause_before_survey(clock, due)
        survey(due, found=False)
    due.acted()
    assert await pause_before_survey(clock, due) == 10.0


async def test_another_process_has_a_survey_made_at_once(clock: FakeClock, due: Counted) -> None:
    """No time passes."""
    with waiting(due) as waiter:
        await clock.settle()
        due.survey_now()
        await clock.settle()
        assert waiter.done()


async def test_without_a_lease_nothing_spins(clock: FakeClock, due: Counted) -> None:
    """A survey that can't be made yet is no reason to wake up again and again."""
    due.allowed = False
    with waiting(due) as waiter:
        await clock.advance(100.0)  # raises where the loop does not come to rest
        assert not waiter.done()


async def test_a_drain_ends_the_wait(clock: FakeClock, due: Counted, state: RuntimeState) -> None:
    """With nothing due."""
    with waiting(due) as waiter:
        await clock.settle()
        state.draining = True
        due.wake()
        await clock.settle()
        assert waiter.done()


async def test_a_sleep_lasts_its_time_unless_the_runtime_drains(
    clock: FakeClock, due: Counted, state: RuntimeState
) -> None:
    """A wake-up for another reason does not end it."""
    sleeper = asyncio.ensure_future(due.sleep(5.0))
    await clock.advance(1.0)
    due.wake()
    await clock.advance(3.9)
    assert not sleeper.done()
    await clock.advance(0.2)
    assert sleeper.done()
    sleeper = asyncio.ensure_future(due.sleep(5.0))
    await clock.settle()
    state.draining = True
    due.wake()
    await clock.settle()
    assert sleeper.done()


async def test_caught_up_returns_when_the_dispatcher_is_idle(
    clock: FakeClock, due: Counted
) -> None:
    """It waits while a row is due, and while the dispatcher is at work."""
    due.expect("a", "default")
    caught_up = asyncio.ensure_future(due.caught_up())
    await clock.settle()
    assert not caught_up.done()
    due.rows = 0
    with waiting(due):
        await clock.settle()
        assert caught_up.done()


async def test_caught_up_does_not_wait_for_a_dispatcher_that_is_stalled(
    clock: FakeClock, due: Counted
) -> None:
    """Nothing can be done about its rows for now."""
    due.expect("a", "default")
    caught_up = asyncio.ensure_future(due.caught_up())
    await clock.settle()
    due.stall()
    await clock.settle()
    assert caught_up.done()
