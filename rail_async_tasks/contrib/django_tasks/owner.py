"""The owner and the tenant of Django tasks that are enqueued in a block."""

from __future__ import annotations

import contextvars
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from rail_async_tasks.access import as_id, user_id_of
from rail_async_tasks.errors import InvalidArguments

# The ids of owner and tenant.
_current: contextvars.ContextVar[tuple[str | None, str | None]] = contextvars.ContextVar(
    "rail_django_task_owner", default=(None, None)
)


@contextmanager
def owned_by(owner: Any, *, tenant_id: Any = None) -> Iterator[None]:
    """Gives an owner to the Django tasks that are enqueued in this block, in this thread or task.

    Works for code that you do not own, such as a package that enqueues its own tasks. Tasks that a
    body enqueues have no owner unless the body opens such a block.

    Args:
        owner: a saved user or their primary key; None or `AnonymousUser`: no owner.
        tenant_id: the tenant's id, if any.

    Raises:
        InvalidArguments: `owner` is neither, for example a user that was not saved.
    """
    token = _current.set((_id_of(owner), as_id(tenant_id)))
    try:
        yield
    finally:
        _current.reset(token)


def owner_and_tenant() -> tuple[str | None, str | None]:
    """Returns the ids of the innermost block, or None twice."""
    return _current.get()


def _id_of(owner: Any) -> str | None:
    if owner is None or getattr(owner, "is_anonymous", False) is True:
        return None
    if isinstance(owner, str | int | UUID) and not isinstance(owner, bool) and owner != "":
        return str(owner)
    found = user_id_of(owner)
    if found is None:
        raise InvalidArguments(
            f"owner must be a saved user or their primary key, not {type(owner).__name__}."
        )
    return found
