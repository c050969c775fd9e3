"""Finds the retries of a task. Only rows that are retries are in the index, where it is partial."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('rail_async_tasks', '0009_failed_index'),
    ]

    operations = [
        migrations.AddIndex(
            model_name='taskexecution',
            index=models.Index(condition=models.Q(('parent_id__isnull', False)), fields=['parent_id'], name='rat_retries'),
        ),
    ]
