"""Nullable columns without a default, so that processes of the version before go on beside new ones.

Those insert rows without naming the columns. Adding them rewrites no row on any database.
"""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('rail_async_tasks', '0002_plain_indexes'),
    ]

    operations = [
        migrations.AddField(
            model_name='taskexecution',
            name='error_type',
            field=models.CharField(blank=True, help_text="The exception's class name.", max_length=255, null=True),
        ),
        migrations.AddField(
            model_name='taskexecution',
            name='language',
            field=models.CharField(blank=True, help_text='The language in which the body runs. Empty: LANGUAGE_CODE.', max_length=255, null=True),
        ),
    ]
