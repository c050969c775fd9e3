"""Inserts rows, or merges them into those that exist, in one statement.

Django's `bulk_create(update_conflicts=True)` replaces values; roll-ups add them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model

# Databases with a statement for it.
VENDORS: Final = ("postgresql", "sqlite", "mysql")

# By the way of merging: the old value is {old}, the new one {new}.
_MERGES: Final = {
    "add": "{old} + {new}",
    "least": "CASE WHEN {new} < {old} THEN {new} ELSE {old} END",
    "greatest": "CASE WHEN {new} > {old} THEN {new} ELSE {old} END",
    "replace": "{new}",
}
# Rows of one statement.
_PAGE: Final = 100


def upsert(
    connection: BaseDatabaseWrapper,
    model: type[Model],
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    merges: Mapping[str, str],
) -> None:
    """Stores the rows, which have a primary key `id`; where it exists, merges these columns.

    Numbers are written into the statement, which a database limits in parameters.
    """
    quote = connection.ops.quote_name
    table = quote(model._meta.db_table)
    mysql = connection.vendor == "mysql"
    sets = ", ".join(
        f"{quote(column)} = "
        + _MERGES[how].format(
            old=f"{table}.{quote(column)}",
            new=f"VALUES({quote(column)})" if mysql else f"excluded.{quote(column)}",
        )
        for column, how in merges.items()
    )
    conflict = "ON DUPLICATE KEY UPDATE" if mysql else f"ON CONFLICT ({quote('id')}) DO UPDATE SET"
    fields: list[Any] = [model._meta.get_field(column) for column in columns]
    names = ", ".join(map(quote, columns))
    for first in range(0, len(rows), _PAGE):
        values, parameters = [], []
        for row in rows[first : first + _PAGE]:
            marks = []
            for field, value in zip(fields, row, strict=True):
                if type(value) is int:
                    marks.append(str(value))
                else:
                    marks.append("%s")
                    parameters.append(field.get_db_prep_value(value, connection))
            values.append(f"({', '.join(marks)})")
        head = f"INSERT INTO {table} ({names}) VALUES "  # noqa: S608 (names of the model's own)
        with connection.cursor() as cursor:
            cursor.execute(f"{head}{', '.join(values)} {conflict} {sets}", parameters)
