"""A table that processes of the version before do not know: they go on, and heed no pause."""

from typing import Any

from django.db import migrations, models


def compare_bytes(apps: Any, editor: Any) -> None:
    """Compares text as the other tables do, see 0002: a claim compares their queues with it."""
    if editor.connection.vendor != "mysql":
        return
    maria = editor.connection.mysql_is_mariadb
    collation = "utf8mb4_nopad_bin" if maria else "utf8mb4_0900_bin"
    table = editor.quote_name(apps.get_model("rail_async_tasks", "QueueState")._meta.db_table)
    editor.execute(f"ALTER TABLE {table} CONVERT TO CHARACTER SET utf8mb4 COLLATE {collation}")


class Migration(migrations.Migration):

    dependencies = [
        ('rail_async_tasks', '0003_error_type_and_language'),
    ]

    operations = [
        migrations.CreateModel(
            name='QueueState',
            fields=[
                ('name', models.CharField(max_length=100, primary_key=True, serialize=False)),
                ('paused_at', models.DateTimeField(blank=True, help_text='Since when none of it starts. Empty: it is not paused.', null=True)),
                ('paused_by', models.CharField(blank=True, help_text="A user's id, or what paused it by itself.", max_length=255, null=True)),
                ('seq', models.IntegerField(default=0, help_text='Grows with every pause and resume.')),
            ],
            options={
                'db_table': 'rail_async_tasks_queue',
            },
        ),
        migrations.RunPython(compare_bytes, migrations.RunPython.noop, atomic=False),
    ]
