"""The tables in Django's admin, read only. Django imports this where the admin is installed.

For an admin site of the project's own: `site.register(TaskExecution, TaskExecutionAdmin)`.
"""

from __future__ import annotations

from django.contrib import admin

from rail_async_tasks.admin.executions import TaskExecutionAdmin
from rail_async_tasks.admin.others import (
    QueueStateAdmin,
    TaskEventAdmin,
    TaskRuntimeAdmin,
    TaskScheduleAdmin,
)
from rail_async_tasks.models import (
    QueueState,
    TaskEvent,
    TaskExecution,
    TaskRuntime,
    TaskSchedule,
)

__all__ = [
    "QueueStateAdmin",
    "TaskEventAdmin",
    "TaskExecutionAdmin",
    "TaskRuntimeAdmin",
    "TaskScheduleAdmin",
]

admin.site.register(TaskExecution, TaskExecutionAdmin)
admin.site.register(TaskEvent, TaskEventAdmin)
admin.site.register(TaskSchedule, TaskScheduleAdmin)
admin.site.register(QueueState, QueueStateAdmin)
admin.site.register(TaskRuntime, TaskRuntimeAdmin)
