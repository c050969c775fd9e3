"""Rows of any state, and a client for each kind of visitor."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from rail_async_tasks.dashboard import counters
from rail_async_tasks.ids import first_id_at, new_id
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.states import FINAL
from tests.projects import shop


@pytest.fixture(autouse=True)
def settings_of_the_shop(settings: Any) -> None:
    """Tasks run inline, so that no test leaves a runtime."""
    settings.RAIL_DJANGO_GRAPHQL = {
        **shop.SETTINGS,
        "task_settings": {"backend": "sync", "audit_enabled": True},
    }


@pytest.fixture(autouse=True)
def counters_are_read_anew() -> None:
    """Those of the test before are not shown."""
    counters._known.clear()


@pytest.fixture
def row() -> Callable[..., TaskExecution]:
    """Stores an execution in a state, created `age` seconds ago."""

    def create(status: str = "pending", *, age: float = 0, **fields: Any) -> TaskExecution:
        at = datetime.now(UTC) - timedelta(seconds=age)
        begun = status in {"running", "completed", "failed"}
        random = new_id().int & ((1 << 62) - 1)
        defaults: dict[str, Any] = {
            "id": UUID(int=first_id_at(at.timestamp()).int | (7 << 76) | (2 << 62) | random),
            "name": "add", "queue": "default", "created_at": at, "updated_at": at,
            "arguments": {"a": 1},
            "completed_at": at if status in FINAL else None,
            "started_at": at if begun else None,
            "runtime_id": new_id() if status == "running" else None,
            "token": new_id() if status == "running" else None,
            "attempts": 1 if begun else 0,
        }  # fmt: skip
        return TaskExecution.objects.create(status=status, **(defaults | fields))

    return create


KINDS = ("anonymous", "plain", "staff", "viewer", "operator", "superuser")


@pytest.fixture
def as_() -> Callable[[str], Client]:
    """Returns a client, which checks CSRF tokens, of a kind of visitor: see `KINDS`."""

    def sign_in(kind: str) -> Client:
        client = Client(enforce_csrf_checks=True)
        if kind == "anonymous":
            return client
        user = User.objects.create(
            username=kind, is_staff=kind != "plain", is_superuser=kind == "superuser"
        )
        rights = {"viewer": ["view"], "operator": ["view", "change"], "plain": ["view", "change"]}
        for verb in rights.get(kind, []):
            name = f"{verb}_taskexecution"
            user.user_permissions.add(Permission.objects.get(codename=name))
        client.force_login(user)
        return client

    return sign_in


def token_of(client: Client, url: str = "/tasks/") -> str:
    """Returns the CSRF token of a page's form."""
    text = client.get(url).content.decode()
    return text.partition('name="csrfmiddlewaretoken" value="')[2].partition('"')[0]
