"""Cancel and retry in the admin: by right, through the service, and reported in a message."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.messages import get_messages
from django.test import Client

from rail_async_tasks import task
from rail_async_tasks.admin import changes
from rail_async_tasks.models import TaskEvent, TaskExecution
from tests.admin.test_pages import LIST, Login, declarations_are_the_tests_own, login, row

__all__ = ["declarations_are_the_tests_own", "login"]

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.admin.urls")]


@pytest.fixture(autouse=True)
def inline(settings: Any) -> None:
    """Tasks run at once, in the request."""
    settings.RAIL_DJANGO_GRAPHQL = {"task_settings": {"backend": "sync", "audit_enabled": True}}


def act(client: Client, action: str, *rows: TaskExecution, **more: str) -> list[str]:
    """Posts an action; returns its messages."""
    chosen = [str(it.id) for it in rows]
    response = client.post(LIST, {"action": action, "_selected_action": chosen, **more})
    assert response.status_code in (200, 302)
    return [str(it) for it in get_messages(response.wsgi_request)]


def test_cancel(login: Login) -> None:
    """Waiting ones end, running ones are asked to; the message counts the one that had ended."""
    client = login("view", "change", is_staff=True)
    waiting, ended = row(), row("completed")
    assert act(client, "cancel_selected", waiting, ended) == [
        "1 task cancelled.", "1 task not cancelled: it has ended.",
    ]  # fmt: skip
    waiting.refresh_from_db()
    assert waiting.status == "cancelled"
    [event] = TaskEvent.objects.filter(execution_id=waiting.id)
    assert (event.reason, event.actor) == ("cancelled", client.session["_auth_user_id"])


def test_retry(login: Login) -> None:
    """A new task with the arguments, queue and owner of the first; the audit names the user."""

    @task(name="admin.add")
    async def add(a: int) -> int:
        return a + 1

    client = login("view", "change", is_staff=True)
    failed = row("failed", name="admin.add", arguments={"a": 1}, owner_id="7", queue="low")
    assert act(client, "retry_selected", failed, row()) == [
        "1 task retried.", "1 task not retried: it has not ended.",
    ]  # fmt: skip
    new = TaskExecution.objects.get(parent_id=failed.id)
    assert (new.status, new.result, new.owner_id, new.queue) == ("completed", 2, "7", "low")
    created = TaskEvent.objects.get(execution_id=new.id, reason="created")
    assert created.actor == client.session["_auth_user_id"]


def test_a_permission_of_the_declaration_is_asked(login: Login) -> None:
    """As by every other way to retry."""
    from strawberry.permission import BasePermission

    class Closed(BasePermission):
        message = "No."

        def has_permission(self, source: Any, info: Any, **kwargs: Any) -> bool:
            return False

    @task(name="admin.closed", permission_classes=[Closed])
    async def closed() -> None: ...

    client = login("view", "change", is_staff=True)
    failed = row("failed", name="admin.closed")
    [message] = act(client, "retry_selected", failed)
    assert message.startswith("1 task not retried: ")
    assert not TaskExecution.objects.filter(parent_id=failed.id).exists()


def test_a_task_that_is_not_declared_any_more(login: Login) -> None:
    """The message names it."""
    client = login("view", "change", is_staff=True)
    [message] = act(client, "retry_selected", row("failed", name="gone"))
    assert message == "1 task not retried: The task gone does not exist any more."


@pytest.mark.parametrize("action", ["cancel_selected", "retry_selected"])
def test_the_right_to_see_is_no_right_to_change(login: Login, action: str) -> None:
    """Posted all the same, it does nothing."""
    found = row("pending" if action == "cancel_selected" else "failed")
    act(login("view", is_staff=True), action, found)
    assert TaskExecution.objects.values().get() == TaskExecution.objects.values().get(id=found.id)
    found.refresh_from_db()
    assert found.status in ("pending", "failed")
    assert TaskEvent.objects.count() == 0


def test_csrf_is_asked_for(login: Login) -> None:
    """A page of another site can't post."""
    inner = login("view", "change", is_staff=True)
    client = Client(enforce_csrf_checks=True)
    client.cookies = inner.cookies
    found = row()
    data = {"action": "cancel_selected", "_selected_action": [str(found.id)]}
    assert client.post(LIST, data).status_code == 403
    found.refresh_from_db()
    assert found.status == "pending"


def test_too_many_at_once(login: Login, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is done: a request would take minutes."""
    monkeypatch.setattr(changes, "MOST_CHANGED", 2)
    client = login("view", "change", is_staff=True)
    [message] = act(client, "cancel_selected", row(), row(), row())
    assert "more than 2 tasks at once" in message
    assert TaskExecution.objects.filter(status="pending").count() == 3
    client = login("view", "change", is_staff=True)
    assert act(client, "cancel_selected", *TaskExecution.objects.all()[:2]) == [
        "2 tasks cancelled."
    ]
