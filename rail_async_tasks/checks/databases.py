"""Checks the database of the tasks (E016, W005, W006, W018)."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final, cast

from django.apps import AppConfig, apps
from django.core.checks import CheckMessage, Error, Warning
from django.db import connections, router
from django.db.backends.base.base import BaseDatabaseWrapper

from rail_async_tasks import conf
from rail_async_tasks.checks.settings import APP
from rail_async_tasks.ledger.tables import missing_table, refusal

# `ALTER TABLE ... DROP COLUMN` and `UPDATE ... RETURNING`, which the ledger is written with.
OLDEST_SQLITE: Final = (3, 35)

WAL_HINT: Final = (
    'Add "OPTIONS": {"init_command": "PRAGMA journal_mode=WAL", "transaction_mode": "IMMEDIATE"} '
    "to the database's settings, so that readers and the writer do not wait for each other."
)


def check_databases(
    app_configs: Sequence[AppConfig] | None,
    databases: Iterable[str] | None = None,
    **_: Any,
) -> list[CheckMessage]:
    """Checks the database of the tasks, if Django was asked to check it."""
    alias = ledger_alias()
    if alias not in (databases or ()):
        return []
    if conf.read().task_values.get("track_in_database") is False:
        return []
    connection = connections[alias]
    tables = _check_tables(connection)
    if connection.vendor == "sqlite":
        return [*tables, *_check_sqlite(connection)]
    if connection.vendor != "postgresql":
        name = connection.display_name
        message = f'Database "{alias}" ({name}) keeps tasks by a slower path: a statement per row.'
        hint = (
            "All promises hold there; it is tested on MariaDB (docs/databases.md). For more tasks a"
            f' second use PostgreSQL, or add "{APP}.W006" to SILENCED_SYSTEM_CHECKS.'
        )
        return [*tables, Warning(message, hint=hint, id=f"{APP}.W006")]
    return tables


def ledger_alias() -> str:
    """Returns the alias of the database of the tasks."""
    try:
        model = apps.get_model(APP, "TaskExecution")
    except LookupError:  # the app is not installed; its checks may still be called
        return "default"
    return router.db_for_write(model)


def _check_tables(connection: BaseDatabaseWrapper) -> list[CheckMessage]:
    """Reports tables that are missing: a warning, as `migrate` runs the checks before it helps."""
    if sys.argv[1:2] == ["migrate"] or not apps.is_installed(APP):
        return []
    was_open = connection.connection is not None
    try:
        missing = missing_table(connection)
    except Exception:  # noqa: BLE001 - Django itself reports a database that can't be read
        return []
    finally:
        if not was_open:
            with contextlib.suppress(Exception):
                connection.close()
    if missing is None:
        return []
    hint = "Until then no task runs, and every use of tasks answers BACKEND_UNAVAILABLE."
    return [Warning(str(refusal(connection.alias, missing)), hint=hint, id=f"{APP}.W018")]


def _check_sqlite(connection: BaseDatabaseWrapper) -> list[CheckMessage]:
    version = cast(Any, connection).Database.sqlite_version_info
    if version < OLDEST_SQLITE:
        message = f"SQLite {'.'.join(map(str, version))} is too old."
        hint = "Use Python with SQLite 3.35 or newer, or PostgreSQL."
        return [Error(message, hint=hint, id=f"{APP}.E016")]
    mode = _journal_mode(connection)
    if mode in (None, "wal", "memory"):  # "memory": an in-memory database, which has no WAL
        return []
    message = f'The SQLite database "{connection.alias}" is not in WAL mode but "{mode}".'
    return [Warning(message, hint=WAL_HINT, id=f"{APP}.W005")]


def _journal_mode(connection: BaseDatabaseWrapper) -> str | None:
    """Returns SQLite's journal mode; None where Django itself reports the database."""
    was_open = connection.connection is not None
    try:
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA journal_mode")
            row = cursor.fetchone()
        return str(row[0]).lower() if row else None
    except Exception:  # noqa: BLE001 - a driver, a wrong OPTIONS, a directory that is missing
        return None
    finally:
        if not was_open:
            with contextlib.suppress(Exception):
                connection.close()
