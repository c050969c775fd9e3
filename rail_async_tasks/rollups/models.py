"""The tables of roll-ups: counts that processes add up, for the charts of an operator.

They outlive the executions that they count, and are no truth about any of them. Times are whole
seconds since 1970, which are never ambiguous and add no zone to a comparison.
"""

from __future__ import annotations

from django.db import models

from rail_async_tasks.rollups.columns import COUNTS


class TaskRollup(models.Model):
    """What became of the executions of one task in one queue, in one span of time.

    Each event is counted in a row of every span: a minute, ten minutes, an hour. `wait_N` and
    `run_N` are the buckets of `histogram`: from creation to the first attempt, and how long bodies
    took.
    """

    id = models.UUIDField(primary_key=True, editable=False, help_text="A digest of the key.")
    span = models.IntegerField(help_text="Seconds.")
    start = models.BigIntegerField(help_text="Seconds since 1970.")
    name = models.CharField(max_length=255)
    queue = models.CharField(max_length=100)

    class Meta:
        db_table = "rail_async_tasks_rollup"
        indexes = (models.Index(fields=("span", "start"), name="rat_rollup_start"),)

    def __str__(self) -> str:
        return f"{self.name} {self.queue} {self.start}+{self.span}"


for _column in COUNTS:
    TaskRollup.add_to_class(_column, models.IntegerField(default=0))


class ErrorRollup(models.Model):
    """How often one error has ended attempts of one task, in one hour.

    `error` is the exception's class, or the error code where there is none; with `place` it is what
    tells errors apart. `failed` counts executions, `retried` attempts that another one follows.
    """

    id = models.UUIDField(primary_key=True, editable=False, help_text="A digest of the key.")
    start = models.BigIntegerField(help_text="Seconds since 1970.")
    name = models.CharField(max_length=255)
    error = models.CharField(max_length=255)
    place = models.CharField(max_length=255, blank=True, help_text="File, line and function.")
    failed = models.IntegerField(default=0)
    retried = models.IntegerField(default=0)
    first_at = models.BigIntegerField(help_text="Seconds since 1970.")
    last_at = models.BigIntegerField(help_text="Seconds since 1970.")
    example_id = models.UUIDField(help_text="The execution that failed last.")

    class Meta:
        db_table = "rail_async_tasks_error_rollup"
        indexes = (models.Index(fields=("start",), name="rat_error_rollup_start"),)

    def __str__(self) -> str:
        return f"{self.error} in {self.name} at {self.place or 'no known place'}"
