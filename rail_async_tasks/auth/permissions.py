"""What a task's declaration asks of who starts it: `permission_classes` and `extensions`.

Both are Strawberry's. They are asked in the form that the caller has: awaited on an event loop,
called in a thread without one.
"""

from __future__ import annotations

from collections.abc import Awaitable
from functools import partial
from typing import Any, Final

from django.core.exceptions import PermissionDenied
from strawberry.extensions.field_extension import FieldExtension
from strawberry.permission import BasePermission, PermissionExtension

from rail_async_tasks.auth.field_extensions import arun, run
from rail_async_tasks.declaration.definition import TaskDefinition
from rail_async_tasks.hooks import acall, call, on_event_loop


class SilentlyRefused(PermissionDenied):
    """A field extension answered in place of the start, without an error."""

    def __init__(self) -> None:
        super().__init__("You may not start this task.")


class ThreadedPermission(BasePermission):
    """Asks a permission class of the project in a thread, unless it is async.

    So it may query (`user.has_perm()` does) and block without holding the event loop.
    """

    def __init__(self, permission: BasePermission) -> None:
        self._permission = permission

    def has_permission(self, source: Any, info: Any, **kwargs: Any) -> bool | Awaitable[bool]:
        """Returns the answer of the project's permission; on an event loop, an awaitable of it."""
        ask = partial(self._permission.has_permission, source, info, **kwargs)
        answer: bool | Awaitable[bool] = acall(ask) if on_event_loop() else call(ask)
        return answer

    def on_unauthorized(self) -> None:
        """Raises the error of the project's permission."""
        self._permission.on_unauthorized()


def start_extensions(definition: TaskDefinition) -> tuple[FieldExtension, ...]:
    """Returns the extensions around a start, the outermost last: it asks permission classes."""
    options = definition.options
    if not options.permission_classes:
        return options.extensions
    permissions: list[BasePermission] = [
        ThreadedPermission(it()) for it in options.permission_classes
    ]
    return (*options.extensions, PermissionExtension(permissions, use_directives=False))


_ALLOWED: Final = object()


async def acheck_start(info: Any, definition: TaskDefinition, values: dict[str, Any]) -> None:
    """Asks whether the caller may start the task, as its mutation does. `values` are the arguments.

    Raises what the first one that refuses raises; `SilentlyRefused` where it answers otherwise.
    """

    async def start(source: Any, info: Any, **kwargs: Any) -> object:
        return _ALLOWED

    if await arun(start_extensions(definition), start, None, info, values) is not _ALLOWED:
        raise SilentlyRefused


def check_start(info: Any, definition: TaskDefinition, values: dict[str, Any]) -> None:
    """`acheck_start()` for a thread without a running event loop."""

    def start(source: Any, info: Any, **kwargs: Any) -> object:
        return _ALLOWED

    if run(start_extensions(definition), start, None, info, values) is not _ALLOWED:
        raise SilentlyRefused
