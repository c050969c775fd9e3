"""Whose rights an open stream asks for again."""

from __future__ import annotations

from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import BaseUserManager, Group, User, UserManager
from django.db import transaction

from rail_async_tasks.access import Viewer
from rail_async_tasks.auth import rights, standing
from rail_async_tasks.auth.credential import Credential
from rail_async_tasks.auth.standing import Claim, Standing, users_are_in_one_place
from rail_async_tasks.graphql.lean_consumer import fresh_connections

AUTH = "django.contrib.auth"
ONE_DATABASE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


@pytest.mark.parametrize(
    ("installed", "shared", "one_place"),
    [([], None, True), (["django_tenants"], [AUTH], True), (["django_tenants"], [], False)],
)
def test_users_of_a_tenants_schema_are_not_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
    installed: list[str],
    shared: Any,
    one_place: bool,
) -> None:
    """In the public schema another user, or none, has their primary key."""
    several = SimpleNamespace(INSTALLED_APPS=installed, SHARED_APPS=shared)
    monkeypatch.setattr(standing, "settings", several)
    monkeypatch.setattr(rights, "credential_of", lambda *_: Credential(is_stored=True))
    assert users_are_in_one_place() is one_place
    guard = rights.Guard.of(User(pk=7, username="ada"), None)
    assert guard is not None
    assert (guard.claim is not None) is one_place


@pytest.mark.django_db(transaction=True)
def test_users_and_groups_are_saved_in_a_transaction_begun_by_hand() -> None:
    """Django runs no `on_commit` there: the streams are checked at their next regular time."""
    transaction.set_autocommit(False)
    try:
        user = User.objects.create(username="ada")
        user.groups.add(Group.objects.create(name="editors"))
        transaction.commit()
    finally:
        transaction.set_autocommit(True)
    assert User.objects.get().groups.get().name == "editors"


class OwnBackend(ModelBackend):
    """A project's own."""


class OwnManager(UserManager[User]):
    """A project's own."""


@pytest.mark.parametrize(
    ("backends", "manager", "may_read"),
    [
        (["django.contrib.auth.backends.ModelBackend"], UserManager, False),
        (["django.contrib.auth.backends.AllowAllUsersModelBackend"], BaseUserManager, False),
        ([f"{__name__}.OwnBackend"], UserManager, True),
        (["django.contrib.auth.backends.ModelBackend"], OwnManager, True),
    ],
)
async def test_code_of_the_projects_reads_its_callers_context(
    monkeypatch: pytest.MonkeyPatch, settings: Any, backends: Any, manager: Any, may_read: bool
) -> None:
    """Such as a tenant's: each caller is asked for alone there."""
    caller: ContextVar[str | None] = ContextVar("caller", default=None)
    settings.AUTHENTICATION_BACKENDS = backends
    monkeypatch.setitem(vars(User._meta), "default_manager", manager())
    seen: list[str | None] = []

    def standings(claims: Any) -> Any:
        seen.append(caller.get())
        return [Standing(User(pk=7), Viewer()) for _ in claims]

    monkeypatch.setattr(rights, "standings", standings)
    caller.set("ada")
    await rights.Guard(Claim("7", None), None).ask()
    assert seen == ["ada" if may_read else None]


@ONE_DATABASE
def test_a_transaction_of_the_thread_stays_open(database: object) -> None:
    """A project's `TestCase` is in one, with a socket by Channels' communicator."""

    async def asked(user: User) -> Standing | None:
        await fresh_connections()
        return await rights.Guard(Claim.of(user, None), None).ask()

    with transaction.atomic():
        ada = User.objects.create(username="ada")
        found = async_to_sync(asked)(ada)
        assert found is not None
        assert found.user == ada
        assert User.objects.count() == 1
        transaction.set_rollback(True)
    assert User.objects.count() == 0
