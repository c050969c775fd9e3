"""The clock of the schedules in a test: it stands still, and moves when the test says so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from django.utils import timezone

from rail_async_tasks.conf import get_settings
from rail_async_tasks.declaration.definition import TaskDefinition
from rail_async_tasks.registry import registry
from rail_async_tasks.runtime.upkeep.cron import Schedule

# A Monday at midnight, in the project's time zone. Were it the time of day, a test that advances by
# a minute would meet a tick of `*/5` once in five runs.
START: Final = datetime(2024, 1, 1)  # noqa: DTZ001 (the zone is a setting)

# The ticks that one move of the clock may pass: more are a mistake, such as milliseconds.
MAX_TICKS: Final = 10_000


class Clock:
    """Says which schedules tick while time passes. The wall clock's own ticks do not count."""

    def __init__(self) -> None:
        self.now = START.replace(tzinfo=timezone.get_default_timezone()).astimezone(UTC)

    def advance(self, by: timedelta) -> list[TaskDefinition]:
        """Moves; returns the tasks whose schedules tick meanwhile, in order, one for each tick.

        Raises:
            ValueError: there are more than `MAX_TICKS`.
            ConfigurationError: an expression is none, or cronsim is not installed.
        """
        since, self.now = self.now, self.now + by
        if not get_settings().enabled:
            return []
        ticks: list[tuple[datetime, str]] = []
        scheduled = {it.name: it for it in registry.definitions() if it.options.cron}
        for name, definition in scheduled.items():
            assert definition.options.cron is not None
            schedule = Schedule(definition.options.cron)
            tick = schedule.after(since)
            while tick is not None and tick <= self.now:
                ticks.append((tick, name))
                if len(ticks) > MAX_TICKS:
                    raise ValueError(
                        f"advance({by.total_seconds():g}) passes more than {MAX_TICKS} ticks of"
                        " tasks with cron; advance by less. It takes seconds."
                    )
                tick = schedule.after(tick)
        return [scheduled[name] for _, name in sorted(ticks)]


def as_timedelta(seconds: float | timedelta) -> timedelta:
    """Returns the duration. Raises `ValueError` for one that is negative or no number."""
    try:
        by = seconds if isinstance(seconds, timedelta) else timedelta(seconds=seconds)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"advance() takes seconds or a timedelta, not {seconds!r}.") from error
    if by < timedelta(0):
        raise ValueError(f"advance() takes 0 seconds or more, not {seconds!r}: no clock goes back.")
    return by
