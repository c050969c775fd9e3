"""The arguments of a task as people may read them: sensitive ones redacted, never decrypted."""

from __future__ import annotations

import json
from typing import Any, Final

from rail_async_tasks.codec.encryption import MARK
from rail_async_tasks.registry import registry

# In the place of a sensitive argument.
REDACTED: Final = "[redacted]"


def shown_arguments(name: str, stored: str | None) -> dict[str, Any] | None:
    """Returns the arguments of a task of that name; sensitive ones as `[redacted]`.

    `stored` is the row's JSON. An argument is sensitive where the declaration says so, or where it
    is stored encrypted: this process may not know the task.
    """
    if stored is None:
        return None
    arguments: dict[str, Any] = json.loads(stored)
    hidden = sensitive_arguments(name, arguments)
    return {key: REDACTED if key in hidden else value for key, value in arguments.items()}


def sensitive_arguments(name: str, arguments: dict[str, Any]) -> frozenset[str]:
    """Returns the names of the sensitive arguments, those that are not given too."""
    definition = registry.get(name)
    declared: frozenset[str] = (
        frozenset() if definition is None else frozenset(definition.options.sensitive)
    )
    return declared | {key for key, value in arguments.items() if _is_encrypted(value)}


def _is_encrypted(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {MARK}
