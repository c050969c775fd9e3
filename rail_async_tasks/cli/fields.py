"""A task's fields under REST's names, and whether its arguments can be read."""

from __future__ import annotations

from typing import Any

from rail_async_tasks.declaration.definition import TaskDefinition
from rail_async_tasks.errors import TaskError
from rail_async_tasks.rest.render import FIELDS
from rail_async_tasks.snapshot import TaskSnapshot


def fields_of(task: TaskSnapshot) -> dict[str, Any]:
    """Returns REST's fields, but for the traceback, in REST's order. Times are in UTC."""
    return {name: getattr(task, name) for name in FIELDS if name != "traceback"}


def is_readable(definition: TaskDefinition, stored: str | None) -> bool:
    """Returns whether this process can decrypt a task's arguments."""
    try:
        definition.plain(stored or "{}")
    except TaskError:
        return False
    return True
