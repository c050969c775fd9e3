"""A task's permission classes, where no field asks them: at a retry."""

from __future__ import annotations

import inspect
from typing import Any

from rail_async_tasks.definition import TaskDefinition


async def check_permissions(info: Any, definition: TaskDefinition, values: dict[str, Any]) -> None:
    """Asks the classes as the field of the task's mutation does. `values` are the arguments.

    Raises what the first class that refuses raises.
    """
    for permission_class in definition.options.permission_classes:
        permission = permission_class()
        allowed = permission.has_permission(None, info, **values)
        if inspect.isawaitable(allowed):
            allowed = await allowed
        if not allowed:
            permission.on_unauthorized()
