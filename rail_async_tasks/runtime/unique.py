"""The key under which an execution is the only unfinished one."""

from __future__ import annotations

import hashlib

import msgspec

from rail_async_tasks.codec.encryption import fingerprint
from rail_async_tasks.conf import get_settings
from rail_async_tasks.declaration.definition import TaskDefinition


def unique_key(
    definition: TaskDefinition,
    arguments: bytes,
    *,
    given: str | None = None,
    tenant_id: str | None = None,
    owner_id: str | None = None,
) -> str | None:
    """Returns the key in the row, scoped by name, tenant and owner.

    Of the key that was `given`, or of the arguments of a task that is declared `unique`.
    """
    if given is not None:
        parts = ("key", given)
    elif definition.options.unique:
        if definition.options.sensitive:
            keys = get_settings().encryption_keys
            known = fingerprint(arguments, keys, task=definition.name)
        else:
            known = arguments.decode()
        parts = ("arguments", known)
    else:
        return None
    scope = (definition.name, tenant_id, owner_id, *parts)
    return hashlib.sha256(msgspec.json.encode(scope)).hexdigest()
