"""Whose rights an open stream asks for again."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import transaction

from rail_async_tasks.auth import rights, standing
from rail_async_tasks.auth.credential import Credential
from rail_async_tasks.auth.standing import users_are_in_one_place

AUTH = "django.contrib.auth"


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
