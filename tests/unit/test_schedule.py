"""When a task with `cron` is due: also where local times come twice, or never."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from rail_async_tasks.errors import ConfigurationError
from rail_async_tasks.runtime.upkeep.cron import Schedule

MINUTE = timedelta(minutes=1)
# Clocks are put forward and back: by an hour, by half an hour, at midnight, and a day is left out.
STEPS = [
    ("Europe/Berlin", datetime(2026, 3, 29, 1, tzinfo=UTC)),
    ("Europe/Berlin", datetime(2026, 10, 25, 1, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 11, 1, 6, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 4, 4, 15, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 10, 3, 15, 30, tzinfo=UTC)),
    ("America/Havana", datetime(2026, 3, 8, 5, tzinfo=UTC)),
    ("America/Havana", datetime(2026, 11, 1, 5, tzinfo=UTC)),
    ("Pacific/Apia", datetime(2011, 12, 30, 10, tzinfo=UTC)),
]
EXPRESSIONS = (
    "*/5 * * * *", "*/30 * * * *", "7 * * * *", "* 2 * * *", "30 2 * * *", "15,45 2 * * *",
    "0 2,3 * * *", "30 0 * * *", "0 0 * * *", "45 1 * * SUN", "59 23 * * *", "30 2 29 3 *",
)  # fmt: skip


def matches(expression: str, shown: datetime) -> bool:
    """Returns whether the expression matches a clock's time. For the few forms that are above."""
    minute, hour, day, month, weekday = expression.split()

    def fits(field: str, value: int) -> bool:
        if field == "*":
            return True
        if field.startswith("*/"):
            return value % int(field[2:]) == 0
        return value in [int(it) for it in field.replace("SUN", "0").split(",")]

    return (
        fits(minute, shown.minute) and fits(hour, shown.hour) and fits(day, shown.day)
        and fits(month, shown.month) and fits(weekday, shown.isoweekday() % 7)
    )  # fmt: skip


@cache
def minutes_of(zone: str, around: datetime) -> list[tuple[datetime, datetime]]:
    """Every minute of the two days, with what a clock of the zone shows then."""
    tz = ZoneInfo(zone)
    begin = around - timedelta(days=1)
    moments = [begin + number * MINUTE for number in range(2 * 24 * 60)]
    return [(at, at.astimezone(tz).replace(tzinfo=None)) for at in moments]


def ticks_by_hand(expression: str, zone: str, around: datetime) -> list[datetime]:
    """Every tick of the two days, found minute by minute by the rules that the docs state."""
    follows_the_clock = expression.startswith("*") or expression.split()[1].startswith("*")
    found: list[datetime] = []
    shown_before: set[datetime] = set()
    last = minutes_of(zone, around)[0][1] - MINUTE
    for at, shown in minutes_of(zone, around):
        left_out = [last + n * MINUTE for n in range(1, int((shown - last) / MINUTE))]
        named = matches(expression, shown)
        if follows_the_clock:
            due = named
        else:
            due = (named and shown not in shown_before) or any(
                matches(expression, it) for it in left_out
            )
        if due:
            found.append(at)
        shown_before.add(shown)
        last = shown
    return found


@pytest.mark.parametrize(("zone", "around"), STEPS)
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_ticks_where_the_clocks_change(
    settings: Any, expression: str, zone: str, around: datetime
) -> None:
    """`after` and `latest` agree with a walk through every minute, from any moment."""
    settings.TIME_ZONE = zone
    expected = ticks_by_hand(expression, zone, around)
    schedule = Schedule(expression)
    dice = random.Random(7)
    begin = around - timedelta(hours=20)
    at = [around + timedelta(minutes=n) for n in range(-130, 131, 13)]
    at += [around, *(it for it in expected if abs(it - around) < timedelta(hours=3))]
    at += [begin + timedelta(seconds=dice.random() * 40 * 3600) for _ in range(10)]
    for moment in at:
        to_come = [it for it in expected if it > moment]
        after = schedule.after(moment)
        assert after is not None
        assert after > moment
        assert after == to_come[0] if to_come else after >= around + timedelta(days=1), moment
        gone_by = [it for it in expected if it < moment]
        latest = schedule.latest(moment)
        assert latest is not None
        assert latest < moment
        if gone_by:
            assert latest == gone_by[-1], moment


@pytest.mark.parametrize("use_tz", [True, False])
def test_a_tick_that_comes_twice_leads_on(settings: Any, use_tz: bool) -> None:
    """In the second of two hours that look the same every tick is later than the moment asked of.

    One that was not would have its loop ask again, and again, until the hour is over.
    """
    settings.TIME_ZONE, settings.USE_TZ = "Europe/Berlin", use_tz
    at = datetime(2026, 10, 25, 1, 15, tzinfo=UTC)  # 02:15, for the second time
    assert Schedule("30 2 * * *").after(at) == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)
    assert Schedule("30 2 * * *").latest(at) == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize("expression", ["every monday", "61 * * * *", "9" * 5000 + " * * * *"])
def test_what_is_no_expression(expression: str) -> None:
    """The error says so, whatever cronsim raises."""
    with pytest.raises(ConfigurationError, match="five fields"):
        Schedule(expression)
