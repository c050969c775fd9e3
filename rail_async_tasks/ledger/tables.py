"""Finds tables and columns that the database lacks, and the errors that their lack causes."""

from __future__ import annotations

from typing import Final

from django.apps import apps
from django.db import DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from rail_async_tasks.errors import TablesMissing
from rail_async_tasks.models import TaskExecution

_LABEL: Final = TaskExecution._meta.app_label

# PostgreSQL's undefined_table and undefined_column.
_UNDEFINED: Final = ("42P01", "42703")
# As SQLite, MySQL and MariaDB write it.
_TEXTS: Final = ("no such table", "no such column", "has no column", "doesn't exist", "Unknown col")

# Databases, as (alias, name), that have all tables. A process looks once.
_complete: set[tuple[str, str]] = set()


def missing_table(connection: BaseDatabaseWrapper) -> str | None:
    """Returns a table or column of the models that the database lacks; None if there is none.

    Does I/O. Raises the database's errors.
    """
    convert = connection.introspection.identifier_converter
    with connection.cursor() as cursor:
        tables = set(connection.introspection.table_names(cursor, include_views=True))
        for model in apps.get_app_config(_LABEL).get_models():
            table = model._meta.db_table
            if convert(table) not in tables:
                return f"the table {table}"
            found = connection.introspection.get_table_description(cursor, table)
            columns = {column.name for column in found}
            for field in model._meta.concrete_fields:
                if convert(str(field.column)) not in columns:
                    return f"the column {table}.{field.column}"
    return None


def check_tables(alias: str) -> None:
    """Raises `TablesMissing` where the database lacks a table; one look that finds all is enough.

    Returns where the database does not answer: that is waited for, as an outage is later.
    """
    database = (alias, str(connections[alias].settings_dict["NAME"]))
    if database in _complete:
        return
    try:
        missing = missing_table(connections[alias])
    except Exception:  # noqa: BLE001 - whatever the driver raises, and a test that allows no query
        return
    if missing is not None:
        raise refusal(alias, missing)
    _complete.add(database)


def is_lack_of_tables(error: DatabaseError) -> bool:
    """Returns whether a statement has failed for want of one of the package's tables or columns."""
    text = str(error)
    if f"{_LABEL}_" not in text:
        return False
    state = getattr(error.__cause__, "sqlstate", None)
    return state in _UNDEFINED or any(it in text for it in _TEXTS)


def refusal(alias: str, missing: str = "tables of rail_async_tasks") -> TablesMissing:
    """Returns the error for a database that lacks something."""
    option = "" if alias == "default" else f" --database {alias}"
    return TablesMissing(
        f'The database "{alias}" lacks {missing}: run `manage.py migrate{option}`.'
    )
