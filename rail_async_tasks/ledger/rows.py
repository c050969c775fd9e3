"""Reads rows of `TaskExecution` as snapshots, and the ledger's clock, through Django's ORM."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, overload
from uuid import UUID

import msgspec
from django.conf import settings
from django.db import connections
from django.db.models import DateTimeField, Expression, Q, QuerySet, Value
from django.db.models.functions import Now
from django.utils import timezone

from rail_async_tasks.ledger.records import Claimed
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.snapshot import TaskSnapshot


@overload
def in_utc(value: datetime, zone: tzinfo = UTC) -> datetime: ...
@overload
def in_utc(value: None, zone: tzinfo = UTC) -> None: ...
def in_utc(value: datetime | None, zone: tzinfo = UTC) -> datetime | None:
    """Returns a model's time as an aware one in UTC, also where USE_TZ is off.

    `zone` is the database's TIME_ZONE, for a naive time that the ORM has not converted.
    """
    if value is None or value.tzinfo is UTC:
        return value
    if timezone.is_naive(value):
        value = value.replace(tzinfo=zone if settings.USE_TZ else timezone.get_default_timezone())
    return value.astimezone(UTC)


def storable(at: datetime) -> datetime:
    """Returns an aware time as the project's models hold it: local where USE_TZ is off."""
    # Not in the current time zone: a request may have activated its user's.
    return at if settings.USE_TZ else timezone.make_naive(at, timezone.get_default_timezone())


def unambiguous(at: datetime, alias: str) -> datetime:
    """Returns an aware time for a column that only this package reads: never a local one.

    Where clocks are put back, an hour of local times comes twice, and compares wrongly.
    """
    if settings.USE_TZ or connections[alias].vendor == "postgresql":
        return at
    return timezone.make_naive(at, UTC)


def snapshot_of(row: TaskExecution) -> TaskSnapshot:
    """Returns the row as a snapshot."""
    return TaskSnapshot(
        id=row.id,
        name=row.name,
        status=row.status,
        queue=row.queue,
        created_at=in_utc(row.created_at),
        updated_at=in_utc(row.updated_at),
        progress=row.progress,
        progress_message=row.progress_message,
        result=row.__dict__.get("result"),  # None where it was deferred, without a query
        error=row.error,
        error_code=row.error_code,
        error_type=row.error_type,
        priority=row.priority,
        cancel_requested=row.cancel_requested,
        attempts=row.attempts,
        retry_count=row.retry_count,
        max_retries=row.max_retries,
        owner_id=row.owner_id,
        tenant_id=row.tenant_id,
        parent_id=row.parent_id,
        seq=row.seq,
        step=row.step,
        run_after=in_utc(row.run_after),
        started_at=in_utc(row.started_at),
        completed_at=in_utc(row.completed_at),
        expires_at=in_utc(row.expires_at),
    )


def claimed_of(row: TaskExecution, token: UUID, *, suspect: bool = False) -> Claimed:
    """Returns a row that was claimed with the token, read with all of what its body runs with."""
    return Claimed(
        snapshot_of(row), msgspec.json.encode(row.arguments).decode(), token, row.language,
        suspect, row.traceparent, row.tracestate,
    )  # fmt: skip


def snapshot_rows(alias: str) -> QuerySet[TaskExecution]:
    """Returns all rows, without the columns that no snapshot shows."""
    return TaskExecution.objects.using(alias).defer(
        "arguments", "traceback", "language", "traceparent", "tracestate"
    )


class UtcNow(Now):
    """MySQL's time in UTC: its `CURRENT_TIMESTAMP` is in the server's zone, which Django leaves."""

    def as_mysql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="UTC_TIMESTAMP(6)", **context)


def now(alias: str) -> Expression:
    """Returns the ledger's clock: the database's own; on SQLite, which has none, Python's."""
    connection = connections[alias]
    if connection.vendor == "sqlite":
        return Value(timezone.now(), output_field=DateTimeField())
    if connection.vendor != "mysql":
        return Now()
    # Times are kept in this zone, as Django writes them. Its rules are ours, the clock is not.
    zone = connection.timezone or timezone.get_default_timezone()
    offset = datetime.now(zone).utcoffset() or timedelta(0)
    return UtcNow() + offset if offset else UtcNow()


def clock(alias: str) -> datetime:
    """Returns the time of the ledger's clock, in UTC, by a query of its own."""
    connection = connections[alias]
    query = TaskExecution.objects.using(alias).query
    expression = now(alias).resolve_expression(query)
    text, params = query.get_compiler(alias).compile(expression)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {text}{connection.features.bare_select_suffix}", params)
        value: datetime = cursor.fetchone()[0]
    for convert in connection.ops.get_db_converters(expression):
        value = convert(value, expression, connection)
    return in_utc(value)


def unexpired(alias: str) -> Q:
    """Returns the filter of unexpired rows: an expired one is hidden at once, deleted later."""
    return Q(expires_at__isnull=True) | Q(expires_at__gt=now(alias))


def find_unfinished(alias: str, keys: Sequence[str | None]) -> dict[str | None, TaskSnapshot]:
    """Returns the unfinished executions that have the keys; every final edge clears its row's."""
    rows = snapshot_rows(alias).filter(unique_key__in=keys)
    return {row.unique_key: snapshot_of(row) for row in rows}
