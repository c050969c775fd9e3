"""Schedules: the ticks of a cron expression. The only module that imports cronsim.

cronsim computes with local times that have no zone; this module maps each to the moments at which a
clock in the project's zone shows it. Where the clocks are put forward that is no moment, where they
are put back it is two. As in Debian's cron, a schedule that names its minutes and its hours runs
once in either case: at the end of the gap, and at the first of the two. Any other schedule follows
the clock: it has no tick in the gap, and ticks in both of the hours that look the same.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING

from django.utils import timezone

from rail_async_tasks.errors import ConfigurationError

if TYPE_CHECKING:
    from cronsim import CronSim

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)


class Schedule:
    """A cron expression, in the project's time zone.

    Raises:
        ConfigurationError: cronsim is not installed, or the expression is none.
    """

    def __init__(self, expression: str) -> None:
        self._expression = expression
        fields = expression.split()
        names_hours = not any(field.startswith("*") for field in fields[:2])
        self._once = len(fields) == 5 and names_hours
        self.after(datetime.now(UTC))

    def after(self, moment: datetime) -> datetime | None:
        """Returns the first tick after that aware time, in UTC; None if there is none to come."""
        zone = timezone.get_default_timezone()
        # Local times that have passed already, but come again, are ticks to come.
        start = _local(moment, zone) - _repeated(moment, moment + DAY, zone)
        found: datetime | None = None
        for local in self._ticks(start):
            moments = self._moments(local, zone)
            found = min((it for it in (*moments, found) if it and it > moment), default=None)
            # The second moment of one tick may come after the first of later ones.
            if found and moments and moments[0] >= found:
                break
        return found

    def latest(self, moment: datetime) -> datetime | None:
        """Returns the last tick before that aware time, in UTC."""
        zone = timezone.get_default_timezone()
        start = _local(moment, zone) + _repeated(moment - DAY, moment, zone)
        found: datetime | None = None
        for local in self._ticks(start, reverse=True):
            moments = self._moments(local, zone)
            found = max((it for it in (*moments, found) if it and it < moment), default=None)
            if found and moments and moments[-1] <= found:
                break
        return found

    def _ticks(self, start: datetime, *, reverse: bool = False) -> CronSim:
        """Returns the local times of the expression after `start`, or before it in reverse."""
        try:
            from cronsim import CronSim, CronSimError
        except ImportError as error:
            raise ConfigurationError(
                'Tasks with cron need the package cronsim: pip install "rail_async_tasks[cron]".'
            ) from error
        try:
            return CronSim(self._expression, start, reverse=reverse)
        except (CronSimError, ValueError) as error:
            raise ConfigurationError(
                f"{self._expression!r} is no cron expression ({error}). Write five fields: minute,"
                ' hour, day, month, weekday; for example "*/5 * * * *".'
            ) from error

    def _moments(self, local: datetime, zone: tzinfo) -> list[datetime]:
        """Returns the moments of a tick at that local time, in order: one, as a rule."""
        first, second = (
            local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)
        )  # fmt: skip
        if _local(first, zone) == local:
            return [first] if first == second or self._once else [first, second]
        if not self._once:
            return []
        while _local(local.replace(tzinfo=zone).astimezone(UTC), zone) != local:
            local += MINUTE
        return [local.replace(tzinfo=zone).astimezone(UTC)]


def _local(moment: datetime, zone: tzinfo) -> datetime:
    """Returns the local time in the zone at that moment, without the zone."""
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)


def _repeated(since: datetime, until: datetime, zone: tzinfo) -> timedelta:
    """Returns how much local time comes twice, as clocks are put back between the moments."""
    passed = _local(until, zone) - _local(since, zone)
    return max(until - since - passed, timedelta(0))
