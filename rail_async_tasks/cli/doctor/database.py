"""Findings about the database: its answer, tables, migrations, rows that are left, its clock."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from django.db import DatabaseError, connections, transaction
from django.db.migrations.loader import MigrationLoader

from rail_async_tasks.cli.doctor.setups import Finding, found
from rail_async_tasks.ledger.records import TOLERANCE
from rail_async_tasks.ledger.rows import clock, storable
from rail_async_tasks.ledger.tables import missing_table
from rail_async_tasks.models import TaskExecution, TaskRuntime
from rail_async_tasks.text import counted, describe, sentence

APP: Final = TaskExecution._meta.app_label
# The database's clock may differ from this machine's by so many seconds.
MOST_SKEW: Final = 10.0
# The clean-up deletes an expired task well within this time.
CLEAN_UP_TIME: Final = timedelta(hours=1)


def answer(alias: str) -> Iterator[Finding]:
    """Yields whether the database does not answer."""
    connection = connections[alias]
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT 1{connection.features.bare_select_suffix}")
            cursor.fetchone()
    except Exception as error:  # noqa: BLE001 (whatever the driver raises)
        message = f'Database "{alias}": {sentence(describe(error))}'
        yield found("database-unreachable", message)


def tables(alias: str) -> Iterator[Finding]:
    """Yields tables and columns that are missing, and migrations."""
    missing = missing_table(connections[alias])
    if missing is not None:
        yield found("tables-missing", f'The database "{alias}" lacks {missing}.')
    loader = MigrationLoader(connections[alias])
    known = {name for app, name in loader.disk_migrations if app == APP}
    applied = {name for app, name in loader.applied_migrations if app == APP}
    if unapplied := sorted(known - applied):
        yield found("migrations-unapplied", f"Not applied: {', '.join(unapplied)}.")
    if unknown := sorted(applied - known):
        yield found("migrations-unknown", f"Not known here: {', '.join(unknown)}.")


def writable(alias: str) -> Iterator[Finding]:
    """Yields whether no row can be changed, by an update of a row that does not exist."""
    try:
        with transaction.atomic(using=alias):
            TaskRuntime.objects.using(alias).filter(id=UUID(int=0)).update(dead=True)
    except DatabaseError as error:
        message = f'Database "{alias}": {sentence(describe(error))}'
        yield found("database-read-only", message)


def left_over(alias: str) -> Iterator[Finding]:
    """Yields rows that the clean-up should have deleted."""
    since = storable(clock(alias) - CLEAN_UP_TIME)
    count = TaskExecution.objects.using(alias).filter(expires_at__lt=since).count()
    if count:
        verb = "has" if count == 1 else "have"
        message = f"{counted(count, 'task')} {verb} expired over an hour ago."
        yield found("finished-not-deleted", message)


def clocks(alias: str) -> Iterator[Finding]:
    """Yields clocks that differ, and rows that a wrong clock has left."""
    before = datetime.now(UTC)
    at = clock(alias)
    skew = (at - before).total_seconds()
    if abs(skew) > MOST_SKEW:
        word = "ahead of" if skew > 0 else "behind"
        message = f"The database's clock is {abs(skew):.0f} s {word} this machine's."
        yield found("clock-differs", message)
    ahead = TaskExecution.objects.using(alias).filter(created_at__gt=storable(at + TOLERANCE))
    newest = ahead.order_by("-created_at").values_list("id", flat=True).first()
    if newest is not None:
        message = f"The task {newest} was created later than it is now by the database's clock."
        yield found("clock-was-ahead", message)
