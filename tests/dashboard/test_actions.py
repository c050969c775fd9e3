"""Cancel and retry of one task: by a plain form, and by the script that takes parts of the page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from rail_async_tasks.models import TaskEvent, TaskExecution
from tests.dashboard.conftest import token_of

pytestmark = pytest.mark.django_db
PARTS = {"HX-Request": "true"}


@pytest.fixture
def operator(as_: Callable[[str], Client]) -> Client:
    return as_("operator")


def post(client: Client, url: str, *, parts: bool = False, **data: str) -> Any:
    data["csrfmiddlewaretoken"] = token_of(client)
    return client.post(url, data, headers=PARTS if parts else {})


def test_cancel_by_a_form(operator: Client, row: Callable[..., TaskExecution]) -> None:
    """It goes back to where the form was, which says what was done; the audit says by whom."""
    task = row("pending")
    answer = post(operator, f"/tasks/{task.id}/cancel/", next="/tasks/?q=queue:default")
    assert answer.status_code == 302
    assert answer["Location"].startswith("/tasks/?q=queue%3Adefault&notice=")
    assert "add is cancelled." in operator.get(answer["Location"]).content.decode()
    task.refresh_from_db()
    assert task.status == "cancelled"
    event = TaskEvent.objects.get(execution_id=task.id, to_status="cancelled")
    assert event.actor == operator.session["_auth_user_id"]


def test_cancel_of_a_running_task_by_the_script(
    operator: Client, row: Callable[..., TaskExecution]
) -> None:
    """The answer has its row, without the button, and what was asked for."""
    task = row("running")
    text = post(operator, f"/tasks/{task.id}/cancel/", parts=True).content.decode()
    assert "add is asked to end." in text
    assert f'data-task="{task.id}"' in text
    assert "cancel requested" in text
    assert "<button" not in text
    assert text.count('hx-swap-oob="outerMorph"') == 2


def test_retry_by_a_form(operator: Client, row: Callable[..., TaskExecution]) -> None:
    """It leads to the new task, which has the old one as its parent."""
    task = row("failed", error="x")
    answer = post(operator, f"/tasks/{task.id}/retry/")
    new = TaskExecution.objects.get(parent_id=task.id)
    assert answer["Location"].startswith(f"/tasks/{new.id}/?notice=")
    assert new.status == "completed"  # inline


def test_retry_by_the_script(operator: Client, row: Callable[..., TaskExecution]) -> None:
    """The answer links to the new task, which is not put into the list under the mouse."""
    task = row("cancelled")
    text = post(operator, f"/tasks/{task.id}/retry/", parts=True).content.decode()
    new = TaskExecution.objects.get(parent_id=task.id)
    assert f'href="/tasks/{new.id}/"' in text
    assert "<li" not in text


@pytest.mark.parametrize(
    ("status", "action", "reason"),
    [
        ("completed", "cancel", "has already finished"),
        ("running", "retry", "has not finished"),
    ],
)
def test_what_cannot_be_done_is_said(
    operator: Client, row: Callable[..., TaskExecution], status: str, action: str, reason: str
) -> None:
    """As a page, and as a part of the page; the task stays as it is."""
    task = row(status)
    for parts in (False, True):
        answer = post(operator, f"/tasks/{task.id}/{action}/", parts=parts)
        assert answer.status_code == 409
        assert reason in answer.content.decode()
        assert ("<html" in answer.content.decode()) is not parts
    assert TaskExecution.objects.count() == 1


def test_a_task_that_is_gone(operator: Client) -> None:
    """The answer says so."""
    answer = post(operator, "/tasks/01890a5d-ac96-774b-bcce-b302099a8057/cancel/")
    assert answer.status_code == 404
    assert "no such task" in answer.content.decode()


@pytest.mark.parametrize("to", ["https://evil.example/", "//evil.example/", "/\\evil.example", "x"])
def test_no_form_leads_off_the_site(
    operator: Client, row: Callable[..., TaskExecution], to: str
) -> None:
    """`next` is a path of this site, or the list."""
    answer = post(operator, f"/tasks/{row('pending').id}/cancel/", next=to)
    assert answer["Location"].startswith("/tasks/?notice=")


def test_no_link_puts_words_on_the_page(operator: Client) -> None:
    """A notice is signed, and passes after a minute."""
    assert "Call 555" not in operator.get("/tasks/?notice=Call+555").content.decode()
