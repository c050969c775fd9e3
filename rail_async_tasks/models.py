"""The tables: executions, the processes that run them, queues, schedules, the audit.

Users read them with the ORM and the admin. Only the ledger writes them: each change is one
compare-and-set, which `save()` is not.
"""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage
from django.core.exceptions import ImproperlyConfigured
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models import F, Q, Value
from django.db.models.functions import Coalesce

from rail_async_tasks.ids import new_id
from rail_async_tasks.states import FINAL, WAITING, Status

__all__ = [
    "ErrorRollup",
    "QueueState",
    "TaskEvent",
    "TaskExecution",
    "TaskRollup",
    "TaskRuntime",
    "TaskSchedule",
]

if not apps.is_installed("rail_async_tasks"):
    raise ImproperlyConfigured(
        '"rail_async_tasks" is not in INSTALLED_APPS. Add it:'
        ' INSTALLED_APPS = [..., "channels", "strawberry_django", "rail_async_tasks"].'
    )


class TaskExecution(models.Model):
    """One request to run a task, and the only source of truth about it."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    name = models.CharField(max_length=255)
    status = models.CharField(max_length=16, choices=[(s.value, s.value) for s in Status])
    queue = models.CharField(max_length=100)
    priority = models.IntegerField(default=0, help_text="Higher first, within a queue.")
    arguments = models.JSONField(default=dict, encoder=DjangoJSONEncoder)

    progress = models.SmallIntegerField(default=0, help_text="Percent.")
    progress_message = models.TextField(null=True, blank=True)
    result = models.JSONField(null=True, blank=True)
    error = models.TextField(null=True, blank=True)
    error_code = models.CharField(max_length=32, null=True, blank=True)
    error_type = models.CharField(
        max_length=255, null=True, blank=True, help_text="The exception's class name."
    )
    error_place = models.CharField(
        max_length=255, null=True, blank=True, help_text="The project's line that it came through."
    )
    traceback = models.TextField(null=True, blank=True, help_text="For staff only.")

    attempts = models.IntegerField(default=0)
    retry_count = models.IntegerField(default=0)
    max_retries = models.IntegerField(default=0)
    crashes = models.IntegerField(default=0, help_text="Attempts lost with their process.")
    # No field here has a `db_default`: on MySQL Django then fails to create a table that has a
    # conditional constraint as well.
    rerun_on_crash = models.BooleanField(default=True)
    cancel_requested = models.BooleanField(default=False)

    # Plain ids, not foreign keys: a deleted user's tasks must not become anonymous ones.
    owner_id = models.CharField(max_length=255, null=True, blank=True)
    tenant_id = models.CharField(max_length=255, null=True, blank=True)
    parent_id = models.UUIDField(null=True, blank=True, help_text="The task that this one retries.")
    unique_key = models.CharField(max_length=255, null=True, blank=True)
    language = models.CharField(
        max_length=255,
        null=True,
        blank=True,
        help_text="The language in which the body runs. Empty: LANGUAGE_CODE.",
    )
    traceparent = models.CharField(
        max_length=55, null=True, blank=True, help_text="The span that started it (W3C)."
    )
    tracestate = models.CharField(max_length=512, null=True, blank=True)

    seq = models.IntegerField(default=1, help_text="Grows with every change of state.")
    step = models.IntegerField(default=0, help_text="Grows with progress within one state.")
    runtime_id = models.UUIDField(null=True, blank=True, help_text="The process that holds it.")
    token = models.UUIDField(null=True, blank=True, help_text="The attempt that may write.")

    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    run_after = models.DateTimeField(null=True, blank=True, help_text="Empty once it is due.")
    dispatched_at = models.DateTimeField(
        null=True, blank=True, help_text="Since when it has been on its way to a worker."
    )
    dispatched_to = models.CharField(
        max_length=255, null=True, blank=True, help_text="The backend that carries it there."
    )
    dispatches = models.IntegerField(default=0, help_text="How often it has been sent.")
    started_at = models.DateTimeField(null=True, blank=True)
    completed_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    callback_at = models.DateTimeField(
        null=True, blank=True, help_text="Since when any process may make its failure callback."
    )

    class Meta:
        db_table = "rail_async_tasks_execution"
        ordering = ("-id",)  # ids grow with creation
        indexes = (
            models.Index(
                fields=("owner_id", "-id"),
                name="rat_owner_newest",
                condition=Q(owner_id__isnull=False),
            ),
            models.Index(fields=("status", "-id"), name="rat_status_newest"),
            # The executions of one error: only those that have failed with a traceback.
            models.Index(
                fields=("error_place", "-id"),
                name="rat_error_place",
                condition=Q(error_place__isnull=False),
            ),
            # The claim: due rows of one queue in the order in which they start.
            models.Index(
                F("queue"),
                F("priority").desc(),
                F("id"),
                name="rat_due",
                condition=Q(status__in=sorted(WAITING), run_after__isnull=True),
            ),
            # The fair claim: the same by owner, where more wait than may run.
            models.Index(
                F("queue"),
                Coalesce("owner_id", Value("")),
                F("priority").desc(),
                F("id"),
                name="rat_fair",
                condition=Q(status__in=sorted(WAITING), run_after__isnull=True),
            ),
            # Staging: rows whose time has not come.
            models.Index(
                fields=("run_after",), name="rat_delayed", condition=Q(run_after__isnull=False)
            ),
            # Rows on their way to a worker: how many of a queue, and which for too long.
            models.Index(
                fields=("queue", "dispatched_at"),
                name="rat_dispatched",
                condition=Q(dispatched_at__isnull=False),
            ),
            # The rows that a process holds: for cancels requested elsewhere, and for recovery.
            models.Index(fields=("runtime_id",), name="rat_held", condition=Q(status="running")),
            models.Index(
                fields=("callback_at",),
                name="rat_callback",
                condition=Q(callback_at__isnull=False),
            ),
            # Rows that were lost with a process are claimed one at a time.
            models.Index(
                fields=("queue",),
                name="rat_suspect",
                condition=Q(crashes__gt=0, status__in=sorted(WAITING)),
            ),
            models.Index(
                fields=("expires_at",), name="rat_expiry", condition=Q(expires_at__isnull=False)
            ),
            # The retries of a task: for its page, and for changes of many tasks.
            models.Index(
                fields=("parent_id",), name="rat_retries", condition=Q(parent_id__isnull=False)
            ),
            # The newest failures and when they ended, for operators. It holds no other rows, and
            # costs nothing where nothing fails.
            models.Index(
                fields=("-id", "completed_at"), name="rat_failed", condition=Q(status="failed")
            ),
        )
        constraints = (
            # Partial, and no `unique=True`, which on PostgreSQL would be two indexes of every row.
            # Databases without conditional constraints have a plain one (migration 0002).
            models.UniqueConstraint(
                fields=("unique_key",),
                name="rat_unique_key",
                condition=Q(unique_key__isnull=False),
            ),
            models.CheckConstraint(
                condition=Q(status__in=sorted(Status)), name="rat_status_is_known"
            ),
            models.CheckConstraint(
                condition=Q(progress__gte=0, progress__lte=100), name="rat_progress_is_a_percentage"
            ),
            models.CheckConstraint(
                condition=Q(status__in=sorted(FINAL), completed_at__isnull=False)
                | Q(status__in=sorted(set(Status) - FINAL), completed_at__isnull=True),
                name="rat_final_has_completed_at",
            ),
            models.CheckConstraint(
                condition=Q(run_after__isnull=True) | Q(status__in=sorted(WAITING)),
                name="rat_only_waiting_has_run_after",
            ),
            models.CheckConstraint(
                condition=Q(dispatched_at__isnull=True) | Q(status__in=sorted(WAITING)),
                name="rat_only_waiting_is_dispatched",
            ),
            models.CheckConstraint(
                condition=~Q(status="running")
                | Q(runtime_id__isnull=False, token__isnull=False, attempts__gte=1),
                name="rat_running_is_held",
            ),
            models.CheckConstraint(
                condition=Q(unique_key__isnull=True) | ~Q(status__in=sorted(FINAL)),
                name="rat_final_frees_its_unique_key",
            ),
            models.CheckConstraint(
                condition=Q(attempts__gte=0, retry_count__gte=0, crashes__gte=0, seq__gte=1),
                name="rat_counts_are_not_negative",
            ),
        )

    def __str__(self) -> str:
        return f"{self.name} {self.id} ({self.status})"

    @classmethod
    def check(cls, **kwargs: Any) -> list[CheckMessage]:
        # Of databases that have no conditional or descending indexes; `migrate` makes plain ones
        # there (the migration `plain_indexes`).
        done = {"models.W036", "models.W037", "models.W043"}
        return [message for message in super().check(**kwargs) if message.id not in done]


class TaskRuntime(models.Model):
    """A process that runs tasks, from its start until it ends or is found dead.

    A live one renews its row all the time. One that was marked dead never comes back: the process
    goes on under a new id.
    """

    id = models.UUIDField(primary_key=True, editable=False)
    place = models.CharField(max_length=255, help_text="Host and process id.")
    role = models.CharField(
        max_length=16,
        null=True,
        blank=True,
        help_text="web, or worker: it takes tasks from a broker.",
    )
    program = models.CharField(
        max_length=100, null=True, blank=True, help_text="The command that runs in it."
    )
    lag_seconds = models.FloatField(
        null=True, blank=True, help_text="The longest wait of its loop since the renewal before."
    )
    leaked = models.IntegerField(
        null=True, blank=True, help_text="Bodies that were given up, and have not ended."
    )
    names = models.JSONField(default=list, help_text="The tasks that it knows.")
    started_at = models.DateTimeField()
    renewed_at = models.DateTimeField()
    lapses_at = models.DateTimeField(help_text="Past it others take it for dead.")
    dead = models.BooleanField(default=False)
    ended_at = models.DateTimeField(
        null=True, blank=True, help_text="When it ended by itself; not one that was found dead."
    )

    class Meta:
        db_table = "rail_async_tasks_runtime"

    def __str__(self) -> str:
        return f"{self.place} {self.id}{' (dead)' if self.dead else ''}"


class QueueState(models.Model):
    """What operators have changed about a queue. A queue without a row has never been paused."""

    name = models.CharField(primary_key=True, max_length=100)
    paused_at = models.DateTimeField(
        null=True, blank=True, help_text="Since when none of it starts. Empty: it is not paused."
    )
    paused_by = models.CharField(
        max_length=255, null=True, blank=True, help_text="A user's id, or what paused it by itself."
    )
    seq = models.IntegerField(default=0, help_text="Grows with every pause and resume.")

    class Meta:
        db_table = "rail_async_tasks_queue"

    def __str__(self) -> str:
        return f"{self.name}{'' if self.paused_at is None else ' (paused)'}"


class QueueRate(models.Model):
    """How much of a queue's rate is spent: a row for each queue that has started something by one.

    See `rail_async_tasks.token_bucket`.
    """

    name = models.CharField(primary_key=True, max_length=100)
    # A number, which no time zone makes ambiguous.
    spent_until = models.BigIntegerField(
        null=True, blank=True, help_text="Microseconds since 1970 in UTC. Empty: nothing is spent."
    )
    waited = models.BooleanField(
        default=False, help_text="Tasks have waited for the rate since then."
    )

    class Meta:
        db_table = "rail_async_tasks_rate"

    def __str__(self) -> str:
        return self.name


class TaskSchedule(models.Model):
    """The last tick of a task with `cron`; each tick starts it in one process."""

    name = models.CharField(primary_key=True, max_length=255)
    last_tick = models.DateTimeField()
    last_execution_id = models.UUIDField(
        null=True, blank=True, help_text="The execution of that tick."
    )

    class Meta:
        db_table = "rail_async_tasks_schedule"

    def __str__(self) -> str:
        return f"{self.name} {self.last_tick:%Y-%m-%d %H:%M}"


class TaskEvent(models.Model):
    """One change of an execution's state, stored where `audit_enabled` is on; outlives its row.

    A pause of a queue and its end are events too, with the queue's name as `name` and an
    `execution_id` that belongs to no execution.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    execution_id = models.UUIDField()
    name = models.CharField(max_length=255)
    owner_id = models.CharField(max_length=255, null=True, blank=True)
    tenant_id = models.CharField(max_length=255, null=True, blank=True)
    seq = models.IntegerField()
    from_status = models.CharField(max_length=16, null=True, blank=True)
    to_status = models.CharField(max_length=16)
    attempt = models.IntegerField()
    at = models.DateTimeField()
    actor = models.CharField(
        max_length=255, null=True, blank=True, help_text="A user's id, or what caused it by itself."
    )
    reason = models.CharField(max_length=32)

    class Meta:
        db_table = "rail_async_tasks_event"
        ordering = ("-id",)
        indexes = (models.Index(fields=("at",), name="rat_event_at"),)
        constraints = (
            # A batch that is repeated after an ambiguous COMMIT stores no event twice.
            models.UniqueConstraint(
                fields=("execution_id", "seq", "reason"), name="rat_event_once"
            ),
        )

    def __str__(self) -> str:
        return f"{self.name} {self.execution_id} {self.from_status} -> {self.to_status}"


# Last, so that a message about missing tables names that of the executions.
from rail_async_tasks.rollups.models import ErrorRollup, TaskRollup  # noqa: E402
