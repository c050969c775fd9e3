"""The rule of access to tasks: pure, one for every edge.

A task is its owner's, within its tenant. Superusers, and staff with the right, see every task. A
task without an owner is open to every caller who knows its id, unless `anonymous_access` is
`"deny"`; it is never listed.
"""

from __future__ import annotations

from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cache
from inspect import getattr_static
from typing import Any, Final, Protocol
from uuid import UUID

from asgiref.sync import sync_to_async
from django.core.exceptions import SynchronousOnlyOperation, ValidationError
from django.db import DataError, connections, transaction
from django.db.models.query_utils import DeferredAttribute
from django.utils.functional import LazyObject

from rail_async_tasks.conf import get_settings, import_from_setting
from rail_async_tasks.errors import ConfigurationError
from rail_async_tasks.hooks import acall, call, contained

VIEW_PERMISSION = "rail_async_tasks.view_taskexecution"
CHANGE_PERMISSION = "rail_async_tasks.change_taskexecution"


class Owned(Protocol):
    """A snapshot or a row, as far as the rule reads it."""

    @property
    def owner_id(self) -> str | None: ...
    @property
    def tenant_id(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Viewer:
    """The user who asks. `user_id` is None for an anonymous one, and for the project's own code.

    Attributes:
        acts_as: who the audit names, where that is no user: an operator at a terminal.
    """

    user_id: str | None = None
    tenant_id: str | None = None
    sees_all: bool = False
    changes_all: bool = False
    acts_as: str | None = None

    @property
    def is_anonymous(self) -> bool:
        return self.user_id is None

    @property
    def rights(self) -> Viewer:
        """The viewer without who they are. Equal ones read the same of a task that both may see."""
        return replace(self, user_id=None if self.is_anonymous else "")

    @property
    def is_system(self) -> bool:
        """Whether the project's own code asks, or an operator: not a user."""
        return self.user_id is None and self.changes_all

    @classmethod
    def for_user(cls, user: Any, tenant_id: str | None = None) -> Viewer:
        """Returns the viewer of a user, `AnonymousUser` or None. Queries the rights of staff."""
        user_id = user_id_of(user)
        if user_id is None:
            return cls(tenant_id=tenant_id)
        if not _may_have_rights(user):
            return cls(user_id, tenant_id)
        sees_all = bool(user.has_perm(VIEW_PERMISSION))
        changes_all = sees_all and bool(user.has_perm(CHANGE_PERMISSION))
        return cls(user_id, tenant_id, sees_all, changes_all)

    @classmethod
    async def afor_user(cls, user: Any, tenant_id: str | None = None) -> Viewer:
        """`for_user()` from async code: a thread is used only where a query may be needed."""
        if is_plain(user.__class__):
            with suppress(SynchronousOnlyOperation):  # a field that was not loaded
                if not _may_have_rights(user):
                    return cls.for_user(user, tenant_id)
        return await sync_to_async(contained(cls.for_user))(user, tenant_id)


# The viewer of the project's own Python code: a task's handle, a command.
SYSTEM = Viewer(sees_all=True, changes_all=True)


_ASKED: Final = ("is_active", "is_staff", "is_superuser", "is_authenticated", "pk")


@cache
def is_plain(kind: type) -> bool:
    """Returns whether users of this class never block: fields, constants, Django's properties.

    A property of the project's may query or block, which an event loop must not.
    """
    found = (getattr_static(kind, name, None) for name in _ASKED)
    return all(
        it is None or isinstance(it, bool | DeferredAttribute) or _is_of_django(it) for it in found
    )


def _is_of_django(attribute: Any) -> bool:
    getter = attribute.fget if isinstance(attribute, property) else None
    return getattr(getter, "__module__", "").startswith("django.")


def _may_have_rights(user: Any) -> bool:
    """Returns whether permissions can change the result. Custom users may lack the flags."""
    return bool(getattr(user, "is_active", False)) and bool(
        getattr(user, "is_superuser", False) or getattr(user, "is_staff", False)
    )


def user_id_of(user: Any) -> str | None:
    """Returns the id of a task's owner; None for None and `AnonymousUser`."""
    if user is None or not getattr(user, "is_authenticated", False) or user.pk is None:
        return None
    return str(user.pk)


def find_user(user_id: str) -> Any | None:
    """Reads the user with this id from the database; returns None if there is none.

    The inverse of `user_id_of`: `str(user.pk)` is the id, to the letter. `"007"` is not user 7, nor
    is `"Ann"` the user "ann" where a database ignores case.

    Raises:
        ValueError: the text can't be a primary key of the user model, for example a service's name.
    """
    from django.contrib.auth import get_user_model

    try:
        found = get_user_model()._default_manager.filter(pk=user_id)
        # A statement that the database refuses must not break the caller's own transaction.
        inside = connections[found.db].in_atomic_block
        with transaction.atomic(using=found.db) if inside else nullcontext():
            user = found.first()
    except (TypeError, OverflowError, ValidationError, DataError) as error:
        raise ValueError("It can't be a primary key of the user model.") from error
    if user is not None and str(user.pk) != user_id:
        raise ValueError("It is no primary key as `str(pk)` writes it.")
    return user


def may_see(viewer: Viewer, task: Owned, anonymous_access: str) -> bool:
    """Returns whether `viewer` may read `task`, whose id they know."""
    if viewer.sees_all:
        return True
    if task.owner_id is None:
        return anonymous_access == "by_id"
    return _owns(viewer, task)


def may_change(viewer: Viewer, task: Owned, anonymous_access: str) -> bool:
    """Returns whether `viewer` may cancel or retry `task`, which they may see."""
    if viewer.changes_all:
        return True
    if task.owner_id is None:
        return anonymous_access == "by_id"
    return _owns(viewer, task)


def may_see_tracebacks(viewer: Viewer) -> bool:
    """Returns whether `viewer` may read tracebacks: superusers, and staff with the right.

    An owner may not: a traceback has paths, and lines of the project's code.
    """
    return viewer.sees_all


def _owns(viewer: Viewer, task: Owned) -> bool:
    """Returns whether `viewer` is the owner of `task`, which has one."""
    return viewer.user_id == task.owner_id and viewer.tenant_id == task.tenant_id


async def atenant_of(request: Any) -> str | None:
    """Returns a request's tenant, by the `tenant_resolver` setting, else by its attributes.

    A plain function runs in a thread, as it may query the database.
    """
    resolve = get_settings().tenant_resolver
    if resolve is None:
        if isinstance(getattr(request, "tenant", None), LazyObject):  # it may query, too
            return await sync_to_async(contained(tenant_in))(request)
        return tenant_in(request)
    return as_id(await acall(import_from_setting(resolve, "tenant_resolver"), request))


def tenant_of(request: Any) -> str | None:
    """`atenant_of()` for synchronous code."""
    resolve = get_settings().tenant_resolver
    if resolve is None:
        return tenant_in(request)
    return as_id(call(import_from_setting(resolve, "tenant_resolver"), request))


_ABSENT: Final = object()


def tenant_in(request: Any) -> str | None:
    """Returns the tenant in a request's attributes, which a middleware has set.

    `tenant_id`, where there is one; else `tenant`: text, a number or a UUID as it is, the
    `schema_name` of django-tenants, or another object's `pk`.

    Raises:
        ConfigurationError: `tenant` is none of these. To ignore it would mix tenants.
    """
    tenant_id = getattr(request, "tenant_id", _ABSENT)
    if tenant_id is not _ABSENT:
        return as_id(tenant_id)
    tenant = getattr(request, "tenant", None)
    if tenant is None or tenant.__class__ is type(None):  # a lazy object around None
        return None
    if isinstance(tenant, str | int | UUID):
        return str(tenant)
    for name in ("schema_name", "pk"):
        if (value := getattr(tenant, name, None)) is not None:
            return str(value)
    raise ConfigurationError(
        f"request.tenant is a {type(tenant).__name__}, which has neither schema_name nor pk. Name a"
        ' function that returns the tenant\'s id: task_settings["tenant_resolver"].'
    )


def as_id(value: Any) -> str | None:
    """Returns a tenant's id as text, whatever its type."""
    return None if value is None else str(value)
