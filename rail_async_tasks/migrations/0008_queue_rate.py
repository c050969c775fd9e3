"""A table that processes of the version before do not know: they go on, and keep no rate."""

from typing import Any

from django.db import migrations, models


def compare_bytes(apps: Any, editor: Any) -> None:
    """Compares text as the other tables do, see 0002."""
    if editor.connection.vendor != "mysql":
        return
    maria = editor.connection.mysql_is_mariadb
    collation = "utf8mb4_nopad_bin" if maria else "utf8mb4_0900_bin"
    table = editor.quote_name(apps.get_model("rail_async_tasks", "QueueRate")._meta.db_table)
    editor.execute(f"ALTER TABLE {table} CONVERT TO CHARACTER SET utf8mb4 COLLATE {collation}")


class Migration(migrations.Migration):

    dependencies = [
        ('rail_async_tasks', '0007_rollups'),
    ]

    operations = [
        migrations.CreateModel(
            name='QueueRate',
            fields=[
                ('name', models.CharField(max_length=100, primary_key=True, serialize=False)),
                ('spent_until', models.BigIntegerField(blank=True, help_text='Microseconds since 1970 in UTC. Empty: nothing is spent.', null=True)),
                ('waited', models.BooleanField(default=False, help_text='Tasks have waited for the rate since then.')),
            ],
            options={
                'db_table': 'rail_async_tasks_rate',
            },
        ),
        migrations.RunPython(compare_bytes, migrations.RunPython.noop, atomic=False),
    ]
