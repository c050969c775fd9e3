"""A task's permission classes, asked before the task starts."""

from __future__ import annotations

from functools import partial
from typing import Any

from strawberry.permission import BasePermission

from rail_async_tasks.definition import TaskDefinition
from rail_async_tasks.hooks import acall


class ThreadedPermission(BasePermission):
    """Asks a permission class of the project in a thread, unless it is async.

    So it may query (`user.has_perm()` does) and block without holding the event loop.
    """

    def __init__(self, permission: BasePermission) -> None:
        self._permission = permission

    async def has_permission(self, source: Any, info: Any, **kwargs: Any) -> bool:
        """Returns the answer of the project's permission."""
        ask = partial(self._permission.has_permission, source, info, **kwargs)
        return await acall(ask)  # type: ignore[no-any-return]

    def on_unauthorized(self) -> None:
        """Raises the error of the project's permission."""
        self._permission.on_unauthorized()


async def check_permissions(info: Any, definition: TaskDefinition, values: dict[str, Any]) -> None:
    """Asks a task's permission classes, as its mutation does. `values` are the arguments.

    Raises what the first class that refuses raises.
    """
    for permission_class in definition.options.permission_classes:
        permission = ThreadedPermission(permission_class())
        if not await permission.has_permission(None, info, **values):
            permission.on_unauthorized()
