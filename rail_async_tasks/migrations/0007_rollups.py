"""Roll-ups for the dashboard, the place of an error, and what a process says of itself.

The new columns of existing tables are nullable and have no default: processes of the version before
go on beside new ones, and adding them rewrites no row.
"""

from typing import Any

from django.db import migrations, models

# The columns of counts, as they were when the table was made.
OUTCOMES = ("completed", "failed", "cancelled", "retried")
COUNTS = (*OUTCOMES, *(f"wait_{i}" for i in range(42)), *(f"run_{i}" for i in range(42)))


def compare_bytes(apps: Any, editor: Any) -> None:
    """Compares text as the other tables do, see 0002: "Ann" and "ann" are two tasks."""
    if editor.connection.vendor != "mysql":
        return
    maria = editor.connection.mysql_is_mariadb
    collation = "utf8mb4_nopad_bin" if maria else "utf8mb4_0900_bin"
    for name in ("TaskRollup", "ErrorRollup"):
        table = editor.quote_name(apps.get_model("rail_async_tasks", name)._meta.db_table)
        editor.execute(f"ALTER TABLE {table} CONVERT TO CHARACTER SET utf8mb4 COLLATE {collation}")


class Migration(migrations.Migration):

    dependencies = [
        ('rail_async_tasks', '0006_trace_context'),
    ]

    operations = [
        migrations.CreateModel(
            name='ErrorRollup',
            fields=[
                ('id', models.UUIDField(editable=False, help_text='A digest of the key.', primary_key=True, serialize=False)),
                ('start', models.BigIntegerField(help_text='Seconds since 1970.')),
                ('name', models.CharField(max_length=255)),
                ('error', models.CharField(max_length=255)),
                ('place', models.CharField(blank=True, help_text='File, line and function.', max_length=255)),
                ('failed', models.IntegerField(default=0)),
                ('retried', models.IntegerField(default=0)),
                ('first_at', models.BigIntegerField(help_text='Seconds since 1970.')),
                ('last_at', models.BigIntegerField(help_text='Seconds since 1970.')),
                ('example_id', models.UUIDField(help_text='The execution that failed last.')),
            ],
            options={
                'db_table': 'rail_async_tasks_error_rollup',
            },
        ),
        migrations.CreateModel(
            name='TaskRollup',
            fields=[
                ('id', models.UUIDField(editable=False, help_text='A digest of the key.', primary_key=True, serialize=False)),
                ('span', models.IntegerField(help_text='Seconds.')),
                ('start', models.BigIntegerField(help_text='Seconds since 1970.')),
                ('name', models.CharField(max_length=255)),
                ('queue', models.CharField(max_length=100)),
                *((column, models.IntegerField(default=0)) for column in COUNTS),
            ],
            options={
                'db_table': 'rail_async_tasks_rollup',
            },
        ),
        migrations.AddField(
            model_name='taskexecution',
            name='error_place',
            field=models.CharField(blank=True, help_text="The project's line that it came through.", max_length=255, null=True),
        ),
        migrations.AddField(
            model_name='taskruntime',
            name='program',
            field=models.CharField(blank=True, help_text='The command that runs in it.', max_length=100, null=True),
        ),
        migrations.AddField(
            model_name='taskruntime',
            name='lag_seconds',
            field=models.FloatField(blank=True, help_text='The longest wait of its loop since the renewal before.', null=True),
        ),
        migrations.AddField(
            model_name='taskruntime',
            name='leaked',
            field=models.IntegerField(blank=True, help_text='Bodies that were given up, and have not ended.', null=True),
        ),
        migrations.AddField(
            model_name='taskruntime',
            name='ended_at',
            field=models.DateTimeField(blank=True, help_text='When it ended by itself; not one that was found dead.', null=True),
        ),
        migrations.AddField(
            model_name='taskschedule',
            name='last_execution_id',
            field=models.UUIDField(blank=True, help_text='The execution of that tick.', null=True),
        ),
        migrations.AddIndex(
            model_name='taskexecution',
            index=models.Index(condition=models.Q(('error_place__isnull', False)), fields=['error_place', '-id'], name='rat_error_place'),
        ),
        migrations.AddIndex(
            model_name='errorrollup',
            index=models.Index(fields=['start'], name='rat_error_rollup_start'),
        ),
        migrations.AddIndex(
            model_name='taskrollup',
            index=models.Index(fields=['span', 'start'], name='rat_rollup_start'),
        ),
        migrations.RunPython(compare_bytes, migrations.RunPython.noop, atomic=False),
    ]
