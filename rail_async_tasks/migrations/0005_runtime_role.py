"""A nullable column, as in 0003. Rows without it are those of processes of the version before."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('rail_async_tasks', '0004_queue_state'),
    ]

    operations = [
        migrations.AddField(
            model_name='taskruntime',
            name='role',
            field=models.CharField(blank=True, help_text='web, or worker: it takes tasks from a broker.', max_length=16, null=True),
        ),
    ]
