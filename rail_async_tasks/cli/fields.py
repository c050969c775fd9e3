"""A task's fields under REST's names, and its arguments without the sensitive ones."""

from __future__ import annotations

import json
from typing import Any, Final

from rail_async_tasks.codec.encryption import MARK
from rail_async_tasks.definition import TaskDefinition
from rail_async_tasks.errors import TaskError
from rail_async_tasks.registry import registry
from rail_async_tasks.rest.render import FIELDS
from rail_async_tasks.snapshot import TaskSnapshot

# In the place of a sensitive argument. It is never decrypted here.
REDACTED: Final = "[redacted]"


def fields_of(task: TaskSnapshot) -> dict[str, Any]:
    """Returns REST's fields, but for the traceback, in REST's order. Times are in UTC."""
    return {name: getattr(task, name) for name in FIELDS if name != "traceback"}


def shown_arguments(name: str, stored: str | None) -> dict[str, Any] | None:
    """Returns the arguments of a task of that name; sensitive ones as `[redacted]`.

    An argument is sensitive where the declaration says so, or where it is stored encrypted: this
    process may not know the task.
    """
    if stored is None:
        return None
    definition = registry.get(name)
    sensitive = frozenset() if definition is None else frozenset(definition.options.sensitive)
    arguments: dict[str, Any] = json.loads(stored)
    return {
        key: REDACTED if key in sensitive or _is_encrypted(value) else value
        for key, value in arguments.items()
    }


def is_readable(definition: TaskDefinition, stored: str | None) -> bool:
    """Returns whether this process can decrypt a task's arguments."""
    try:
        definition.plain(stored or "{}")
    except TaskError:
        return False
    return True


def _is_encrypted(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {MARK}
