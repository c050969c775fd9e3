"""Nullable columns without a default, so that processes of the version before go on beside new ones.

Those insert rows without naming the columns. Adding them rewrites no row on any database.
"""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('rail_async_tasks', '0005_runtime_role'),
    ]

    operations = [
        migrations.AddField(
            model_name='taskexecution',
            name='traceparent',
            field=models.CharField(blank=True, help_text='The span that started it (W3C).', max_length=55, null=True),
        ),
        migrations.AddField(
            model_name='taskexecution',
            name='tracestate',
            field=models.CharField(blank=True, max_length=512, null=True),
        ),
    ]
