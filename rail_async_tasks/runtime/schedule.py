"""Schedules: when a task with `cron` is due. The only module that knows cronsim."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from django.utils import timezone

from rail_async_tasks.errors import ConfigurationError

if TYPE_CHECKING:
    from cronsim import CronSim


class Schedule:
    """A cron expression, in the project's time zone.

    Raises:
        ConfigurationError: cronsim is not installed, or the expression is none.
    """

    def __init__(self, expression: str) -> None:
        self._expression = expression
        self.after(datetime.now(UTC))

    def after(self, moment: datetime) -> datetime | None:
        """The first tick after that aware time, in UTC; None if there is none to come."""
        return self._first(self._from(moment))

    def latest(self, moment: datetime) -> datetime | None:
        """The last tick before that aware time, in UTC."""
        return self._first(self._from(moment, reverse=True))

    def _from(self, moment: datetime, *, reverse: bool = False) -> CronSim:
        try:
            from cronsim import CronSim, CronSimError
        except ImportError as error:
            raise ConfigurationError(
                'Tasks with cron need the package cronsim: pip install "rail_async_tasks[cron]".'
            ) from error
        local = moment.astimezone(timezone.get_default_timezone())
        try:
            return CronSim(self._expression, local, reverse=reverse)
        except CronSimError as error:
            raise ConfigurationError(
                f"{self._expression!r} is no cron expression ({error}). Write five fields: minute,"
                ' hour, day, month, weekday; for example "*/5 * * * *".'
            ) from error

    @staticmethod
    def _first(ticks: CronSim) -> datetime | None:
        found = next(ticks, None)
        return None if found is None else found.astimezone(UTC)
