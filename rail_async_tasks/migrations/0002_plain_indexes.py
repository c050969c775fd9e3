"""What takes the place of conditional indexes, on databases that have none.

Not part of the models' state, so that PostgreSQL and SQLite keep no second index of every row: these
do nothing there. MySQL and MariaDB make plain indexes of most conditional ones by themselves; what
they leave out is the unique key (NULLs are distinct in a plain one) and the claim's order.

On MySQL and MariaDB text is compared byte by byte from then on: by default "Ann" and "ann" would be
one owner, one tenant, one task.
"""

from typing import Any

from django.db import migrations, models

TABLES = ("TaskExecution", "TaskRuntime", "TaskSchedule", "TaskEvent")
UNIQUE = models.UniqueConstraint(fields=("unique_key",), name="rat_unique_key")
INDEXES = (
    models.Index(fields=("queue", "status", "run_after", "-priority", "id"), name="rat_due_plain"),
    models.Index(
        fields=("queue", "status", "run_after", "owner_id", "-priority", "id"),
        name="rat_fair_plain",
    ),
)


def compare_bytes(apps: Any, editor: Any) -> None:
    """Without padding, by which "a" would be "a ": each of the two has a name of its own for it."""
    maria = editor.connection.mysql_is_mariadb
    collation = "utf8mb4_nopad_bin" if maria else "utf8mb4_0900_bin"
    for name in TABLES:
        table = editor.quote_name(apps.get_model("rail_async_tasks", name)._meta.db_table)
        editor.execute(f"ALTER TABLE {table} CONVERT TO CHARACTER SET utf8mb4 COLLATE {collation}")


def make(apps: Any, editor: Any) -> None:
    if editor.connection.vendor == "mysql":
        compare_bytes(apps, editor)
    if not editor.connection.features.supports_partial_indexes:
        executions = apps.get_model("rail_async_tasks", "TaskExecution")
        editor.add_constraint(executions, UNIQUE)
        for index in INDEXES:
            editor.add_index(executions, index)


def drop(apps: Any, editor: Any) -> None:
    if not editor.connection.features.supports_partial_indexes:
        executions = apps.get_model("rail_async_tasks", "TaskExecution")
        for index in INDEXES:
            editor.remove_index(executions, index)
        editor.remove_constraint(executions, UNIQUE)


class Migration(migrations.Migration):
    dependencies = [("rail_async_tasks", "0001_initial")]

    operations = [migrations.RunPython(make, drop, atomic=False)]  # DDL rolls nothing back there
