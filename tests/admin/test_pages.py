"""Tasks in Django's admin: who sees them, what is shown, and that nothing can be changed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from devservers.process import ROOT
from rail_async_tasks import task
from rail_async_tasks.admin import TaskExecutionAdmin, read_only
from rail_async_tasks.ids import new_id
from rail_async_tasks.models import (
    QueueState,
    TaskEvent,
    TaskExecution,
    TaskRuntime,
    TaskSchedule,
)
from rail_async_tasks.states import FINAL
from tests.admin import urls
from tests.support.runtimes import declarations_are_the_tests_own

__all__ = ["declarations_are_the_tests_own"]

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.admin.urls")]

LIST = "/admin/rail_async_tasks/taskexecution/"
MARKUP = "<script>alert(1)</script>"
ESCAPED = "&lt;script&gt;alert(1)&lt;/script&gt;"

Login = Callable[..., Client]


def row(status: str = "pending", **fields: Any) -> TaskExecution:
    at = datetime.now(UTC)
    defaults: dict[str, Any] = {
        "name": "admin.row", "queue": "default", "created_at": at, "updated_at": at,
        "completed_at": at if status in FINAL else None,
    }  # fmt: skip
    return TaskExecution.objects.create(status=status, **(defaults | fields))


@pytest.fixture
def login() -> Login:
    """Logs a user in who has these flags, and rights on tasks."""

    def make(*rights: str, **flags: bool) -> Client:
        user = User.objects.create_user(f"user-{User.objects.count()}", **flags)
        for right in rights:
            user.user_permissions.add(Permission.objects.get(codename=f"{right}_taskexecution"))
        client = Client()
        client.force_login(user)
        return client

    return make


# --- who sees -------------------------------------------------------------------------------------

WHO = [
    # rights, flags, sees, may act
    ((), {}, False, False),
    (("view", "change"), {}, False, False),
    ((), {"is_staff": True}, False, False),
    (("change",), {"is_staff": True}, False, False),
    (("view",), {"is_staff": True}, True, False),
    (("view", "change"), {"is_staff": True}, True, True),
    (("view", "change", "add", "delete"), {"is_staff": True}, True, True),
    ((), {"is_staff": True, "is_superuser": True}, True, True),
    ((), {"is_superuser": True}, False, False),  # the admin is for staff
]
PAGES = [
    (TaskExecution, row),
    (TaskEvent, lambda: TaskEvent.objects.create(
        execution_id=new_id(), name="n", seq=1, to_status="pending", attempt=0,
        at=datetime.now(UTC), reason="created",
    )),
    (TaskSchedule, lambda: TaskSchedule.objects.create(name="n", last_tick=datetime.now(UTC))),
    (QueueState, lambda: QueueState.objects.create(name="low")),
    (TaskRuntime, lambda: TaskRuntime.objects.create(
        id=new_id(), place="host 1", started_at=datetime.now(UTC), renewed_at=datetime.now(UTC),
        lapses_at=datetime.now(UTC),
    )),
]  # fmt: skip


@pytest.mark.parametrize(("rights", "flags", "sees", "acts"), WHO)
def test_the_rule_of_access(
    login: Login, rights: tuple[str, ...], flags: dict[str, bool], sees: bool, acts: bool
) -> None:
    """Superusers, and staff with the right, see all of it; a right to change alone is none."""
    client = login(*rights, **flags)
    for model, make in PAGES:
        found = make()
        name = model._meta.model_name
        for url in (
            f"/admin/rail_async_tasks/{name}/",
            reverse(f"admin:rail_async_tasks_{name}_change", args=[found.pk]),
        ):
            response = client.get(url)
            assert (response.status_code == 200) is sees, (model, response.status_code)
    if sees:
        assert (b"cancel_selected" in client.get(LIST).content) is acts


@pytest.mark.parametrize(("rights", "flags", "sees", "acts"), WHO)
def test_a_site_of_ones_own_keeps_the_rule(
    login: Login, rights: tuple[str, ...], flags: dict[str, bool], sees: bool, acts: bool
) -> None:
    """The users that it lets in see it: here, every user."""
    found = row()
    client = login(*rights, **flags)
    if flags.get("is_superuser"):
        sees = acts = True
    for url in ("", f"{found.id}/change/"):
        response = client.get(f"/own/rail_async_tasks/taskexecution/{url}")
        assert response.status_code == (200 if sees else 403)
    client.post(
        "/own/rail_async_tasks/taskexecution/",
        {"action": "cancel_selected", "_selected_action": [str(found.id)]},
    )
    found.refresh_from_db()
    assert found.status == ("cancelled" if acts else "pending")


def test_the_index_names_them_for_those_who_see(login: Login) -> None:
    """Nothing of them is in anybody else's."""
    assert b"Task executions" in login("view", is_staff=True).get("/admin/").content
    assert b"Task executions" not in login(is_staff=True).get("/admin/").content


# --- read only ------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [model for model, _ in PAGES])
def test_nothing_can_be_written(login: Login, model: Any) -> None:
    """Not by a superuser, who posts what forms would."""
    client = login(is_staff=True, is_superuser=True)
    found = next(make for it, make in PAGES if it is model)()
    before = model.objects.values().get(pk=found.pk)
    place = f"/admin/rail_async_tasks/{model._meta.model_name}/"
    change = reverse(f"admin:rail_async_tasks_{model._meta.model_name}_change", args=[found.pk])
    delete = reverse(f"admin:rail_async_tasks_{model._meta.model_name}_delete", args=[found.pk])
    values = {"name": "forged", "status": "completed", "_save": "Save", "post": "yes"}
    assert client.post(f"{place}add/", values).status_code == 403
    assert client.get(f"{place}add/").status_code == 403
    assert client.post(change, values).status_code == 403
    assert client.post(delete, values).status_code == 403
    client.post(
        place, {"action": "delete_selected", "_selected_action": [str(found.pk)], "post": "yes"}
    )
    assert model.objects.values().get() == before
    page = client.get(change).content.decode()
    assert "<textarea" not in page
    assert 'name="_save"' not in page


# --- what is shown --------------------------------------------------------------------------------


def test_texts_of_tasks_stay_texts(login: Login) -> None:
    """Names, messages, arguments, results, errors, owners: none of them is markup."""
    found = row(
        "failed", name=MARKUP, queue=MARKUP, owner_id=MARKUP, tenant_id=MARKUP, language=MARKUP,
        progress_message=MARKUP, arguments={"a": MARKUP}, result={"b": [MARKUP]}, error=MARKUP,
        error_type=MARKUP, traceback=f"Traceback\n  {MARKUP}",
    )  # fmt: skip
    TaskEvent.objects.create(
        execution_id=found.id, name=MARKUP, seq=1, to_status="pending", attempt=0,
        at=datetime.now(UTC), reason="created", actor=MARKUP,
    )  # fmt: skip
    client = login("view", is_staff=True)
    pages = [LIST, f"{LIST}{found.id}/change/", "/admin/rail_async_tasks/taskevent/"]
    for url in pages:
        page = client.get(url).content.decode()
        assert MARKUP not in page
        assert ESCAPED in page
    page = client.get(pages[1]).content.decode()
    assert page.count(ESCAPED) >= 11
    assert f"<pre>Traceback\n  {ESCAPED}</pre>" in page


def test_sensitive_arguments_are_redacted(login: Login) -> None:
    """By the declaration, and where a value was stored encrypted by another release."""

    @task(name="admin.secret", sensitive=["token"])
    async def secret(token: str, key: str, shown: str) -> None: ...

    arguments = {"token": "hunter2", "key": {"$sealed": "gAAAA"}, "shown": "plain"}
    found = row("completed", name="admin.secret", arguments=arguments)
    page = login("view", is_staff=True).get(f"{LIST}{found.id}/change/").content.decode()
    assert "hunter2" not in page
    assert "plain" in page
    assert page.count("[redacted]") == 2


@pytest.mark.parametrize(
    "lookup",
    [
        "arguments__password__startswith",
        "arguments__contains",
        "token",
        "traceback__regex",
        "name__regex",
    ],
)
def test_no_address_compares_what_is_not_listed(login: Login, lookup: str) -> None:
    """It would tell of a masked argument, letter by letter; and SQLite can't compare some."""
    row(arguments={"password": "hunter2"})
    viewer = login("view", is_staff=True)
    assert viewer.get(LIST, {lookup: "h"}).status_code == 400
    assert viewer.get(LIST, {"name__startswith": "admin"}).status_code == 200


def test_filters_of_a_projects_own_page_work() -> None:
    """In each of the forms that Django's `list_filter` takes."""

    class Own(TaskExecutionAdmin):
        list_filter = ("tenant_id", ("language", admin.AllValuesFieldListFilter))
        date_hierarchy = "completed_at"

    own = Own(TaskExecution, admin.site)
    for lookup in ("tenant_id__exact", "language", "completed_at__year", "completed_at__gte"):
        assert own.lookup_allowed(lookup, "x")
    for lookup in ("arguments__password", "started_at__year", "tenant_id__regex"):
        assert not own.lookup_allowed(lookup, "x")


@pytest.mark.parametrize("page", ["history", "change", "delete"])
def test_who_sees_none_learns_of_no_id(login: Login, page: str) -> None:
    """A task that is there, and one that is not, are answered alike."""
    stranger = login(is_staff=True)
    ids = (row().id, new_id())
    answers = [stranger.get(f"{LIST}{it}/{page}/") for it in ids]
    assert len({(it.status_code, it.content) for it in answers}) == 1


def test_no_address_sorts_a_list(login: Login) -> None:
    """An index has the rows in one order."""
    first, second = row(queue="b"), row(queue="a")
    for address in (LIST, f"{LIST}?o=4", f"{LIST}?o=-4.3"):
        text = login("view", is_staff=True).get(address).content.decode()
        assert text.index(str(second.id)) < text.index(str(first.id))


def test_progress_is_a_bar(login: Login) -> None:
    """An element that needs no style of its own."""
    found = row(progress=42)
    client = login("view", is_staff=True)
    for url in (LIST, f"{LIST}{found.id}/change/"):
        page = client.get(url).content.decode()
        assert '<progress max="100" value="42"' in page
        assert 'style="' not in page.partition("<progress")[2][:200]


def test_the_live_page_is_linked_where_it_is_served(login: Login, settings: Any) -> None:
    """And absent where it is not."""
    found = row(parent_id=new_id())
    client = login("view", is_staff=True)
    assert b">live</a>" not in client.get(LIST).content
    settings.ROOT_URLCONF = urls.WithDashboard
    page = client.get(LIST).content.decode()
    assert f'<a href="/tasks/{found.id}/">live</a>' in page
    page = client.get(f"{LIST}{found.id}/change/").content.decode()
    assert f'<a href="/tasks/{found.id}/">live</a>' in page
    assert f'<a href="{LIST}{found.parent_id}/change/">' in page


def test_expired_tasks_are_hidden(login: Login) -> None:
    """From the list, the search and by id, as from every read."""
    past = datetime.now(UTC) - timedelta(seconds=1)
    found = row("completed", expires_at=past)
    client = login("view", is_staff=True)
    assert str(found.id) not in client.get(LIST).content.decode()
    assert listed(client, q=str(found.id)) == set()
    assert client.get(f"{LIST}{found.id}/change/").status_code == 302  # "doesn't exist"


# --- search and filters ---------------------------------------------------------------------------


def listed(client: Client, **query: str) -> set[UUID]:
    response = client.get(LIST, query)
    assert response.status_code == 200
    return {it.id for it in response.context["cl"].result_list}


def test_search_by_id_owner_and_name(login: Login) -> None:
    """An owner first, then an id or its beginning, then a part of a name."""
    first, second = row(name="shop.report", owner_id="7"), row(name="shop.import", owner_id="12")
    client = login("view", is_staff=True)
    assert listed(client, q=str(first.id)) == {first.id}
    assert listed(client, q="7") == {first.id}
    assert listed(client, q="REPORT") == {first.id}
    assert listed(client, q="shop") == {first.id, second.id}
    assert listed(client, q=str(first.id)[:13]) >= {first.id}
    assert listed(client, q="nothing") == set()
    uuid_owner = row(owner_id=str(first.id))
    assert listed(client, q=str(first.id)) == {uuid_owner.id}


def test_filters(login: Login) -> None:
    """By status, queue and age; a value that is none is all."""
    old = row(id=UUID(int=(0x7 << 76) | (0b10 << 62)), queue="low")
    new = row("failed", queue="high")
    client = login("view", is_staff=True)
    assert listed(client, status="failed") == {new.id}
    assert listed(client, queue="low") == {old.id}
    assert listed(client, created="hour") == {new.id}
    assert listed(client, created="century") == {old.id, new.id}
    assert listed(client, status="failed", queue="low") == set()


def test_names_and_queues_are_looked_for_among_the_newest(
    login: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No index has them: the search ends."""
    monkeypatch.setattr(read_only, "MOST_COMPARED", 2)
    ids = [row(name="shop.report", queue="low").id for _ in range(4)]
    client = login("view", is_staff=True)
    assert listed(client, q="report") == set(ids[2:])
    assert listed(client, queue="low") == set(ids[2:])
    assert listed(client) == set(ids)


def test_a_list_ends(login: Login, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pages hold the first thousand rows; a page beyond is none."""
    monkeypatch.setattr(read_only, "MOST_ROWS", 3)
    for _ in range(5):
        row()
    client = login("view", is_staff=True)
    response = client.get(LIST)
    assert response.context["cl"].result_count == 3
    assert "The first 3 that fit" in response.content.decode()
    assert client.get(LIST, {"p": "9"}).status_code == 200


def test_the_package_needs_no_admin() -> None:
    """It runs, and passes its checks, in a project without `django.contrib.admin`."""
    program = """
from django.conf import settings
from tests import settings as ours
names = {name: getattr(ours, name) for name in dir(ours) if name.isupper()}
names["INSTALLED_APPS"] = [it for it in names["INSTALLED_APPS"] if it != "django.contrib.admin"]
names["ROOT_URLCONF"] = "rail_async_tasks.urls"
settings.configure(**names)
import django
django.setup()
import sys
from django.core.management import call_command
call_command("check")
assert "rail_async_tasks.admin" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
