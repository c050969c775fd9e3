"""Progress of one attempt, on a loop whose clock the test turns."""

from __future__ import annotations

import asyncio
import math
import threading
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from rail_async_tasks.runtime.attempts.progress import ProgressReporter, check_percent


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (0, 0), (100, 100), (25, 25), (99.99, 99), (0.4, 0), (-0.0, 0), (True, 1),
        (Decimal("12.9"), 12), (Decimal("1e2"), 100), (Fraction(1, 3), 0),
        (Fraction(10**400 + 1, 10**400), 1),
    ],
)  # fmt: skip
def test_percentages(given: Any, kept: int) -> None:
    """Whole, rounded down: 100 is stored for 100 alone."""
    assert check_percent(given) == kept
    assert type(check_percent(given)) is int


class Unwritable:
    def __repr__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    "given",
    [
        -1, 100.1, math.nan, math.inf, -math.inf, None, "50", b"50", [1], 1j, 10**400, -(10**400),
        10**5000, Fraction(10**400), Decimal("1e400"), Decimal("NaN"), Decimal("sNaN"),
        Decimal("100.00000000000000000001"), Decimal("-1e-400"), Unwritable(),
    ],
    ids=lambda it: type(it).__name__,
)  # fmt: skip
def test_what_is_no_percentage(given: Any) -> None:
    """ValueError, which shows what was given in a few words, however long it is."""
    with pytest.raises(ValueError, match="from 0 to 100") as refused:
        check_percent(given)
    assert len(str(refused.value)) < 120


class Clock:
    """Stands in for the loop where the reporter looks at the time and sets timers."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.now = 100.0
        self.calls: list[tuple[float, Any]] = []
        self.handed_over = 0

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Any) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(self.now + delay, callback, (), self.loop)
        self.calls.append((self.now + delay, handle))
        return handle

    def call_soon_threadsafe(self, callback: Any) -> None:
        self.handed_over += 1
        self.calls.append((self.now, asyncio.TimerHandle(self.now, callback, (), self.loop)))

    def pass_by(self, seconds: float) -> None:
        self.now += seconds
        due = [call for call in self.calls if call[0] <= self.now]
        self.calls = [call for call in self.calls if call[0] > self.now]
        for _, handle in due:
            if not handle.cancelled():
                handle._run()


@pytest.fixture
async def clock(anyio_backend: Any, monkeypatch: pytest.MonkeyPatch) -> Clock:
    it = Clock()
    # The test's own thread is "on the loop"; others are not.
    here = threading.get_ident()
    monkeypatch.setattr(
        asyncio, "_get_running_loop", lambda: it if threading.get_ident() == here else None
    )
    return it


def reporter(clock: Clock, said: list[Any]) -> ProgressReporter:
    return ProgressReporter(
        clock,  # type: ignore[arg-type]
        0.1,
        lambda percent, message: said.append((percent, message)),
    )


def test_the_first_passes_at_once_then_one_per_interval(clock: Clock) -> None:
    """The latest value of each interval, and nothing where nothing was said."""
    said: list[Any] = []
    it = reporter(clock, said)
    it.report(1, "a")
    assert said == [(1, "a")]
    for percent in (2, 3, 4):
        it.report(percent, "b")
    assert said == [(1, "a")]
    clock.pass_by(0.05)
    assert said == [(1, "a")]
    clock.pass_by(0.05)
    assert said == [(1, "a"), (4, "b")]
    clock.pass_by(10)
    assert len(said) == 2
    it.report(5, None)
    assert said[2:] == [(5, None)]


def test_a_tight_loop_sets_one_timer_per_interval(clock: Clock) -> None:
    """However often it reports."""
    said: list[Any] = []
    it = reporter(clock, said)
    for n in range(100_000):
        it.report(n % 100, None)
    assert len(clock.calls) == 1
    clock.pass_by(0.1)
    assert said == [(0, None), (99, None)]


def test_closing_passes_on_what_was_held_back(clock: Clock) -> None:
    """At once; later reports are not heard."""
    said: list[Any] = []
    it = reporter(clock, said)
    it.report(1, None)
    it.report(2, "last")
    it.close()
    assert said == [(1, None), (2, "last")]
    it.report(3, None)
    it.close()
    clock.pass_by(10)
    assert len(said) == 2


def test_a_thread_costs_the_loop_two_calls_per_interval(clock: Clock) -> None:
    """One to schedule it, one to pass it on; the last value arrives."""
    said: list[Any] = []
    it = reporter(clock, said)

    def body(start: int) -> None:
        for n in range(start, start + 1000):
            it.report(n, None)

    for start in (0, 1000, 2000):
        thread = threading.Thread(target=body, args=(start,))
        thread.start()
        thread.join()
        clock.pass_by(0.0)
    assert said == [(999, None)]
    assert clock.handed_over == 2  # the third loop found one scheduled
    clock.pass_by(0.1)
    assert said == [(999, None), (2999, None)]


def test_a_message_is_cleaned_and_cut(clock: Clock) -> None:
    """As every database takes it, at most 2 KiB."""
    said: list[Any] = []
    reporter(clock, said).report(1, "a\0" + "é" * 5000)
    ((_, message),) = said
    assert message.startswith("a\ufffdé")
    assert len(message.encode()) <= 2048


async def test_a_closed_loop_is_no_error() -> None:
    """A body in a thread that outlives its loop may go on reporting."""
    loop = asyncio.new_event_loop()
    loop.close()
    it = ProgressReporter(loop, 0.1, lambda percent, message: None)
    it.report(1, None)
    it.report(2, None)
