"""An index of the newest failures, for the dashboard. It holds failed tasks alone."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("rail_async_tasks", "0008_queue_rate")]

    operations = [
        migrations.AddIndex(
            model_name="taskexecution",
            index=models.Index(
                condition=models.Q(("status", "failed")),
                fields=["-id", "completed_at"],
                name="rat_failed",
            ),
        ),
    ]
