"""Failures in a row: the pauses between tries, and what is logged of them."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from rail_async_tasks.backoff import LOG_EVERY, LONGEST, SHORTEST, Backoff
from rail_async_tasks.safe_logging import get_logger

NAME = "tests.backoff"


class Clock:
    """Seconds, as the test sets them."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def backoff(clock: Clock, **options: Any) -> Backoff:
    """One whose pauses are the longest that it may choose."""
    options = {"uniform": lambda _, most: most} | options
    return Backoff("Publishing failed", "Tasks go on", log=get_logger(NAME), clock=clock, **options)


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(it.levelname, it.getMessage()) for it in caplog.records if it.name == NAME]


def test_pauses_double_from_the_shortest_to_the_longest(clock: Clock) -> None:
    """Seconds: 0.1, 0.2 … up to 3, however long it lasts."""
    it = backoff(clock)
    assert [it.failed("x") for _ in range(6)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.0]
    assert {it.failed("x") for _ in range(2000)} == {LONGEST}
    assert it.pause == LONGEST


def test_a_recovery_makes_pauses_short_again(clock: Clock) -> None:
    """The next failure is the first of a new row; all of them are counted."""
    it = backoff(clock)
    for _ in range(5):
        it.failed("x")
    it.recovered()
    assert it.pause == SHORTEST
    assert it.failed("x") == SHORTEST
    assert it.failures == 6


def test_another_operation_begins_with_the_shortest_pause(clock: Clock) -> None:
    """It fails as the one before did, whose failures are not over; but it has not waited yet."""
    it = backoff(clock)
    since = [it.failed("x") for _ in range(5)] and it.failing_since
    it.begin()
    assert it.failed("x") == SHORTEST
    assert it.failing_since == since


def test_a_pause_is_spread_over_its_upper_half(clock: Clock) -> None:
    """A fleet does not come back all at once."""
    asked = []

    def uniform(least: float, most: float) -> float:
        asked.append((least, most))
        return 0.75

    assert backoff(clock, uniform=uniform).failed("x") == SHORTEST * 0.75
    assert asked == [(0.5, 1.0)]


def test_it_is_failing_from_the_first_failure_to_the_recovery(clock: Clock) -> None:
    """`failing_since` is the time of the first failure in the row."""
    it = backoff(clock)
    assert (it.failing, it.failing_since) == (False, None)
    it.failed("x")
    clock.now += 5
    it.failed("x")
    assert (it.failing, it.failing_since) == (True, 100.0)
    it.recovered()
    assert (it.failing, it.failing_since) == (False, None)


def test_a_row_of_failures_is_logged_once_and_its_end_too(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """One line names the problem, the error and what goes on; the last one says how long it was."""
    it = backoff(clock)
    it.recovered()
    for _ in range(10):
        it.failed("refused.")
        clock.now += 1.5
    it.recovered()
    it.recovered()
    assert lines(caplog) == [
        ("WARNING", "Publishing failed: refused. Tasks go on"),
        ("WARNING", "Publishing failed: over after 15.0 s"),
    ]


def test_a_failure_that_lasts_is_logged_now_and_then(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """With the error of that time."""
    it = backoff(clock)
    it.failed("refused")
    clock.now += LOG_EVERY - 1
    it.failed("refused still")
    clock.now += 1
    it.failed("unreachable")
    assert [text for _, text in lines(caplog)] == [
        "Publishing failed: refused. Tasks go on",
        "Publishing failed: unreachable. Tasks go on",
    ]


def test_a_failure_that_comes_and_goes_is_logged_now_and_then(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A recovery is logged where its failure was."""
    it = backoff(clock, recovery="Redis takes events again")
    for _ in range(20):
        it.failed("refused")
        it.recovered()
    clock.now += LOG_EVERY
    it.failed("refused")
    assert [text for _, text in lines(caplog)] == [
        "Publishing failed: refused. Tasks go on",
        "Redis takes events again after 0.0 s",
        "Publishing failed: refused. Tasks go on",
    ]


def test_an_unexpected_failure_is_an_error_with_its_traceback(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """It is a defect, not an outage."""
    cause = ZeroDivisionError("by zero")
    backoff(clock).failed("by zero", cause, expected=False)
    [record] = caplog.records
    assert record.levelname == "ERROR"
    assert record.exc_info is not None
    assert record.exc_info[1] is cause


def test_the_traceback_of_an_expected_failure_is_for_debugging(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Operators read one line; DEBUG adds the rest."""
    with caplog.at_level(logging.DEBUG, NAME):
        backoff(clock).failed("away", ConnectionError("away"))
    assert [(it.levelname, bool(it.exc_info)) for it in caplog.records] == [
        ("WARNING", False), ("DEBUG", True),
    ]  # fmt: skip


def test_the_level_of_a_failure_is_the_caller_s_choice(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Keys that cannot be fetched refuse users: an ERROR; the recovery is none."""
    it = backoff(clock, level=logging.ERROR)
    it.failed("HTTP status 500")
    it.recovered()
    assert [level for level, _ in lines(caplog)] == ["ERROR", "WARNING"]
