"""Progress on its way to the rows: the latest of each attempt, twice a second."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from rail_async_tasks.ledger.records import Claimed, Progress
from rail_async_tasks.runtime.attempts.progress_saver import ProgressSaver
from tests.runtime.core import Core
from tests.support.clock import FakeClock


class Written:
    """A ledger that keeps what it is given."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.writes: list[int] = []

    def progress(self, progress: Progress) -> None:
        self.writes.append(progress.progress)
        self._core.ledger.progress(progress)

    def settle(self, outcome: Any, done: Any) -> None:
        raise AssertionError("Only progress is saved here.")


@pytest.fixture
async def core(clock: FakeClock) -> Core:
    return Core(clock)


@pytest.fixture
async def written(core: Core) -> Written:
    return Written(core)


def reports(attempt: Any, percent: int) -> Any:
    """The attempt as it is after a report of progress."""
    snapshot = attempt.snapshot
    attempt.snapshot = msgspec.structs.replace(snapshot, progress=percent, step=snapshot.step + 1)
    return attempt


def attempt_of(claimed: Claimed) -> Any:
    return SimpleNamespace(snapshot=claimed.snapshot, token=claimed.token)


async def test_the_latest_progress_is_saved_after_half_a_second(
    clock: FakeClock, core: Core, written: Written
) -> None:
    """A flood of reports is one write."""
    saver, attempt = ProgressSaver(ledger=written), attempt_of(core.claimed())
    for percent in range(1, 41):
        saver.keep(reports(attempt, percent))
    await clock.advance(0.4)
    assert written.writes == []
    await clock.advance(0.2)
    assert written.writes == [40]
    row = core.ledger.get(attempt.snapshot.id)
    assert row is not None
    assert (row.progress, row.step) == (40, 40)


async def test_each_attempt_is_saved(clock: FakeClock, core: Core, written: Written) -> None:
    """One timer serves all."""
    saver = ProgressSaver(ledger=written)
    for percent in (10, 20):
        saver.keep(reports(attempt_of(core.claimed()), percent))
    await clock.advance(0.6)
    assert written.writes == [10, 20]


async def test_progress_after_a_save_is_saved_in_its_turn(
    clock: FakeClock, core: Core, written: Written
) -> None:
    """The timer starts anew."""
    saver, attempt = ProgressSaver(ledger=written), attempt_of(core.claimed())
    saver.keep(reports(attempt, 10))
    await clock.advance(0.6)
    saver.keep(reports(attempt, 20))
    await clock.advance(0.6)
    await clock.advance(10)
    assert written.writes == [10, 20]


async def test_two_saves_are_half_a_second_apart(
    clock: FakeClock, core: Core, written: Written
) -> None:
    """However many reports come in between."""
    saver, attempt = ProgressSaver(ledger=written), attempt_of(core.claimed())
    for percent in (10, 15, 20):
        saver.keep(reports(attempt, percent))
        await clock.advance(0.2)
    saver.keep(reports(attempt, 30))
    await clock.advance(0.4)
    assert written.writes == [20]
    await clock.advance(0.2)
    assert written.writes == [20, 30]


async def test_an_attempt_that_has_ended_is_not_saved(
    clock: FakeClock, core: Core, written: Written
) -> None:
    """Its outcome carries its last progress."""
    saver, attempt = ProgressSaver(ledger=written), attempt_of(core.claimed())
    saver.keep(reports(attempt, 10))
    saver.forget(attempt.snapshot.id)
    await clock.advance(1.0)
    assert written.writes == []


async def test_the_end_of_the_process_saves_at_once(
    clock: FakeClock, core: Core, written: Written
) -> None:
    """And no timer saves it again."""
    saver, attempt = ProgressSaver(ledger=written), attempt_of(core.claimed())
    saver.keep(reports(attempt, 10))
    saver.save()
    assert written.writes == [10]
    await clock.advance(1.0)
    assert written.writes == [10]
