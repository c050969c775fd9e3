"""The user that an id stands for, whatever the user model's primary key is."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.db import transaction

from rail_async_tasks import task
from rail_async_tasks.access import find_user, user_id_of
from rail_async_tasks.auth.users import load_user as user_of_claim
from rail_async_tasks.registry import registry
from rail_async_tasks.runtime.attempts.context import load_user

ID = UUID("0199c8a2-5c1e-7000-8000-00000000abcd")

# A model, and the key of the one user that there is.
MODELS: dict[str, Any] = {
    "auth.User": 7,
    "accounts.SmallUser": 7,
    "accounts.UuidUser": ID,
    "accounts.SlugUser": "ann",
    "accounts.AddressUser": "10.0.0.1",
    "accounts.KnownUser": "ann",
}
STRANGERS = (
    "17", "-1", "0", "07", " 7", "7 ", "+7", "7.0", "7e0", "\u0667", "billing-service", "", " ",
    "None", "True", "ANN", "ann ", "an%", "1e400", "nan", "a\0b", "\0", "\ud800", "é" * 255,
    str(2**31), str(2**63), str(10**254), str(ID).upper(), ID.hex, f"{{{ID}}}", f"urn:uuid:{ID}",
    str(ID)[:-1], "10.0.0.001", "10.0.0.1/32", "::1", "[7]", "(7,)", "7; --", "'",
)  # fmt: skip


@pytest.fixture(params=MODELS)
def user(request: pytest.FixtureRequest, settings: Any, database: Any) -> Any:
    """The one user of a user model, which is the project's meanwhile."""
    settings.AUTH_USER_MODEL = request.param
    found = get_user_model()(pk=MODELS[request.param], username="ann")
    found.save(force_insert=True)
    found.refresh_from_db()  # as every read has it
    return found


def test_an_id_is_its_users(user: Any) -> None:
    """Each kind of key comes back as the user that it was taken of."""
    user_id = user_id_of(user)
    assert user_id is not None
    assert find_user(user_id) == user
    assert load_user(user_id) == user
    assert user_of_claim(user_id) == user


@pytest.mark.parametrize("inside", [False, True], ids=["autocommit", "atomic"])
def test_no_other_text_is_a_users_id(user: Any, inside: bool) -> None:
    """`AnonymousUser`, never an error; a transaction of the caller's goes on."""
    strangers = [it for it in STRANGERS if it != user_id_of(user)]

    def look() -> None:
        for text in strangers:
            assert isinstance(load_user(text), AnonymousUser), text
            assert user_of_claim(text) is None, text
        assert load_user(user_id_of(user)) == user

    if inside:
        with transaction.atomic():
            look()
    else:
        look()


@pytest.mark.parametrize("user", ["accounts.KnownUser"], indirect=True)
def test_a_user_whom_the_default_manager_hides(user: Any) -> None:
    """Is `AnonymousUser`, as for Django's own authentication."""
    get_user_model().everybody.update(left=True)  # type: ignore[attr-defined]
    assert find_user("ann") is None
    assert isinstance(load_user("ann"), AnonymousUser)


@pytest.mark.parametrize("user", ["accounts.UuidUser"], indirect=True)
@pytest.mark.parametrize("claim", [17, 2**63, 10**5000, -1], ids=["int", "long", "huge", "below"])
def test_a_token_for_a_number_where_keys_are_none(user: Any, claim: int) -> None:
    """Is refused like one for a user who is gone."""
    assert user_of_claim(claim) is None


@pytest.mark.parametrize("user", ["accounts.UuidUser"], indirect=True)
@pytest.mark.parametrize("owner", [17, "17", "billing-service", ID])
def test_a_task_of_an_owner_of_another_kind(
    user: Any, settings: Any, monkeypatch: pytest.MonkeyPatch, owner: Any
) -> None:
    """It runs, with `AnonymousUser` unless the id is a user's."""
    for name in ("_definitions", "coroutine_names", "thread_names"):
        monkeypatch.setattr(registry, name, getattr(registry, name))  # forgotten after the test
    settings.RAIL_DJANGO_GRAPHQL = {"task_settings": {"backend": "sync"}}

    @task(name="owners.who")
    def who(info: Any) -> list[Any]:
        return [type(info.context.user).__name__, info.context.user.get_username()]

    handle = who.using(owner=owner).enqueue()
    assert handle.result(5) == (["UuidUser", "ann"] if owner == ID else ["AnonymousUser", ""])
    assert handle.snapshot.owner_id == str(owner)
