"""Access to tasks, as tables: who may see and change them."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.test import override_settings
from django.utils.functional import SimpleLazyObject

from rail_async_tasks.access import (
    SYSTEM,
    VIEW_PERMISSION,
    Viewer,
    atenant_of,
    is_plain,
    may_change,
    may_see,
    tenant_of,
    user_id_of,
)
from rail_async_tasks.errors import ConfigurationError

ANONYMOUS = Viewer()
ADA = Viewer("1")
ADA_AT_ACME = Viewer("1", "acme")
GRACE = Viewer("2")
AUDITOR = Viewer("3", sees_all=True)
ADMIN = Viewer("4", "acme", sees_all=True, changes_all=True)


@dataclass
class Row:
    owner_id: str | None
    tenant_id: str | None = None


# viewer, task, then what holds under "by_id": may see, may change
RULE = [
    (ADA, Row("1"), True, True),
    (GRACE, Row("1"), False, False),
    (ANONYMOUS, Row("1"), False, False),
    (ADA, Row("1", "acme"), False, False),
    (ADA_AT_ACME, Row("1"), False, False),
    (ADA_AT_ACME, Row("1", "acme"), True, True),
    (ADA_AT_ACME, Row("1", "other"), False, False),
    (AUDITOR, Row("1"), True, False),
    (AUDITOR, Row("3"), True, True),
    (ADMIN, Row("1", "other"), True, True),
    (SYSTEM, Row("1", "acme"), True, True),
    (ANONYMOUS, Row(None), True, True),
    (ADA, Row(None), True, True),
    (ADA, Row(None, "acme"), True, True),
    (ADMIN, Row(None), True, True),
]


@pytest.mark.parametrize(("viewer", "task", "sees", "changes"), RULE)
def test_the_rule(viewer: Viewer, task: Row, sees: bool, changes: bool) -> None:
    """The owner within the tenant, who sees or changes all, and by its id a task without owner."""
    assert may_see(viewer, task, "by_id") == sees
    assert may_change(viewer, task, "by_id") == changes


@pytest.mark.parametrize("viewer", [ANONYMOUS, ADA, ADA_AT_ACME])
def test_without_anonymous_access_a_task_without_owner_is_closed(viewer: Viewer) -> None:
    """Under "deny" not even its id opens it."""
    assert not may_see(viewer, Row(None), "deny")
    assert not may_change(viewer, Row(None), "deny")


def test_without_anonymous_access_staff_sees_on() -> None:
    """ "deny" takes nothing from who sees all and from owners."""
    assert may_see(AUDITOR, Row(None), "deny")
    assert may_change(ADMIN, Row(None), "deny")
    assert may_see(ADA, Row("1"), "deny")


def account(**flags: Any) -> Any:
    """A user with flags; `rights` are the permissions it has."""
    rights = flags.pop("rights", ())
    defaults = {"pk": 7, "is_authenticated": True, "is_active": True}
    return SimpleNamespace(**{**defaults, **flags}, has_perm=lambda right: right in rights)


VIEW = "rail_async_tasks.view_taskexecution"
CHANGE = "rail_async_tasks.change_taskexecution"

ACCOUNTS = [
    (account(), Viewer("7")),
    (account(is_staff=True), Viewer("7")),
    (account(is_staff=True, rights=[VIEW]), Viewer("7", sees_all=True)),
    (account(is_staff=True, rights=[VIEW, CHANGE]), Viewer("7", sees_all=True, changes_all=True)),
    (account(is_staff=True, rights=[CHANGE]), Viewer("7")),
    (account(rights=[VIEW, CHANGE]), Viewer("7")),
    (account(is_superuser=True, rights=[VIEW, CHANGE]), Viewer("7", None, True, True)),
    (account(is_superuser=True, is_active=False, rights=[VIEW, CHANGE]), Viewer("7")),
    (account(is_authenticated=False), Viewer()),
    (account(pk=None), Viewer()),
    (AnonymousUser(), Viewer()),
    (None, Viewer()),
]


@pytest.mark.parametrize(("user", "viewer"), ACCOUNTS)
async def test_a_users_viewer(user: Any, viewer: Viewer) -> None:
    """Only active superusers and staff with the right see all, and change only what they see."""
    assert Viewer.for_user(user) == viewer
    assert await Viewer.afor_user(user) == viewer


def test_a_viewer_keeps_the_tenant() -> None:
    """The tenant is the request's, with or without a user."""
    assert Viewer.for_user(account(), "acme") == Viewer("7", "acme")
    assert Viewer.for_user(None, "acme") == Viewer(None, "acme")


def test_an_owner_is_kept_as_text() -> None:
    """Primary keys of any type become text; an anonymous user becomes None."""
    assert user_id_of(account(pk=12)) == "12"
    assert user_id_of(AnonymousUser()) is None


def by_header(request: Any) -> int | None:
    return request.tenant_of_header


async def by_header_async(request: Any) -> int | None:
    return request.tenant_of_header


class ByHeader:
    """An object whose call is a coroutine."""

    async def __call__(self, request: Any) -> int | None:
        return by_header(request)


by_object = ByHeader()


@pytest.mark.parametrize("name", [None, "by_header", "by_header_async", "by_object"])
async def test_the_tenant_of_a_request(name: str | None) -> None:
    """`request.tenant_id`, or what the setting's function says, plain or async; as text."""
    path = None if name is None else f"{__name__}.{name}"
    expected = "acme" if name is None else "5"
    request = SimpleNamespace(tenant_id="acme", tenant_of_header=5)
    with override_settings(RAIL_DJANGO_GRAPHQL={"task_settings": {"tenant_resolver": path}}):
        assert await atenant_of(request) == expected


@pytest.mark.parametrize("name", ["by_header", "by_header_async", "by_object"])
def test_the_tenant_of_a_request_in_a_thread(name: str) -> None:
    """The synchronous form agrees, for both kinds of function."""
    setting = {"task_settings": {"tenant_resolver": f"{__name__}.{name}"}}
    with override_settings(RAIL_DJANGO_GRAPHQL=setting):
        assert tenant_of(SimpleNamespace(tenant_of_header=5)) == "5"
        assert tenant_of(SimpleNamespace(tenant_of_header=None)) is None


async def test_a_request_without_a_tenant() -> None:
    """No attribute, no tenant."""
    assert await atenant_of(SimpleNamespace()) is None
    assert tenant_of(SimpleNamespace()) is None


class Subscriber:
    """A user whose flag is looked up: not to be done on an event loop."""

    pk = 7
    is_authenticated, is_superuser = True, False

    @property
    def is_active(self) -> bool:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        return True

    is_staff = is_active

    def has_perm(self, permission: str) -> bool:
        return permission == VIEW_PERMISSION


async def test_a_users_own_properties_are_asked_in_a_thread() -> None:
    """They may query, which Django refuses on a loop, or block, which shows too late."""
    viewer = await Viewer.afor_user(Subscriber())
    assert (viewer.user_id, viewer.sees_all, viewer.changes_all) == ("7", True, False)


def test_fields_and_djangos_own_properties_are_read_at_once() -> None:
    """A thread for each request of an ordinary user would cost more than the question."""
    from django.contrib.auth.models import User

    assert [is_plain(it) for it in (User, AnonymousUser, type(None), Subscriber)] == [
        True, True, True, False,
    ]  # fmt: skip


@dataclass
class SchemaTenant:
    """As django-tenants has it."""

    schema_name: str
    pk: int = 3


@pytest.mark.parametrize(
    ("attributes", "tenant_id"),
    [
        ({"tenant": "north"}, "north"),
        ({"tenant": 7}, "7"),
        ({"tenant": SchemaTenant("north")}, "north"),
        ({"tenant": SimpleNamespace(pk=3)}, "3"),
        ({"tenant": None}, None),
        ({"tenant": SimpleLazyObject(lambda: SchemaTenant("lazy"))}, "lazy"),
        ({"tenant": SimpleLazyObject(lambda: None)}, None),
        ({"tenant": "north", "tenant_id": "south"}, "south"),
        ({"tenant": "north", "tenant_id": None}, None),
    ],
)
async def test_the_tenant_that_a_middleware_has_set(
    attributes: dict[str, Any], tenant_id: str | None
) -> None:
    """`tenant_id` before `tenant`; of that its `schema_name`, else its `pk`."""
    assert await atenant_of(SimpleNamespace(**attributes)) == tenant_id
    assert await asyncio.to_thread(tenant_of, SimpleNamespace(**attributes)) == tenant_id


async def test_a_lazy_tenant_may_query() -> None:
    """It is read in a thread, where Django allows that."""
    thread: list[Any] = []

    def load() -> SchemaTenant:
        thread.append(threading.current_thread())
        return SchemaTenant("north")

    assert await atenant_of(SimpleNamespace(tenant=SimpleLazyObject(load))) == "north"
    assert thread != [threading.current_thread()]


async def test_a_tenant_that_cannot_be_read_is_refused() -> None:
    """Without it, one user's tasks in two tenants would be in one list."""
    request = SimpleNamespace(tenant=object())
    with pytest.raises(ConfigurationError, match="tenant_resolver"):
        await atenant_of(request)
    with pytest.raises(ConfigurationError, match="neither schema_name nor pk"):
        tenant_of(request)
