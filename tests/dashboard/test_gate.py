"""Who may open the dashboard's pages, who may act, and the headers of every answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import Client
from django.urls import URLPattern, clear_url_caches, include, path, set_script_prefix

from rail_async_tasks.dashboard.links import page_url
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.urls.dashboard import urlpatterns
from tests.dashboard.conftest import KINDS, token_of

pytestmark = pytest.mark.django_db

MAY_SEE = {"viewer", "operator", "superuser"}
MAY_CHANGE = {"operator", "superuser"}
ID = "01890a5d-ac96-774b-bcce-b302099a8057"


def urls() -> Iterator[str]:
    """Every URL of the dashboard but its assets, which hold nothing of any task."""
    pattern: URLPattern
    for pattern in urlpatterns:
        if pattern.name != "asset":
            route = str(pattern.pattern)
            route = re.sub("<[a-z_]+:task_id>", ID, route)
            yield "/" + route.replace("<path:queue>", "default")


URLS = tuple(urls())


def _takes_post(client: Client, url: str) -> bool:
    """Returns whether the URL is an action, by what it answers to a superuser's GET."""
    return client.get(url).headers.get("Allow") == "POST"


@pytest.mark.parametrize("kind", KINDS)
def test_who_sees_what(kind: str, as_: Callable[[str], Client]) -> None:
    """Every page by every kind of visitor."""
    client = as_(kind)
    owner = client if kind == "superuser" else as_("superuser")
    for url in URLS:
        if _takes_post(owner, url):
            continue
        status = client.get(url).status_code
        if kind == "anonymous":
            assert status == 302, url
        elif kind in MAY_SEE:
            assert status in {200, 404}, url  # there is no task of that id
        else:
            assert status == 403, url


@pytest.mark.parametrize("kind", KINDS)
def test_who_changes_what(
    kind: str, as_: Callable[[str], Client], row: Callable[..., TaskExecution]
) -> None:
    """A viewer gets no button, and is refused if they post all the same."""
    task, client = row("pending"), as_(kind)
    page = client.get("/tasks/")
    token = client.cookies["csrftoken"].value if "csrftoken" in client.cookies else "x"
    answer = client.post(f"/tasks/{task.id}/cancel/", headers={"X-CSRFToken": token})
    task.refresh_from_db()
    if kind in MAY_CHANGE:
        assert 'data-action="cancel"' in page.content.decode()
        assert (answer.status_code, task.status) == (302, "cancelled")
        return
    assert "data-action" not in page.content.decode()
    assert task.status == "pending"
    assert answer.status_code == (302 if kind == "anonymous" else 403)


def test_csrf_on_every_action(
    as_: Callable[[str], Client], row: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Each POST without a token is refused and logged, also without middleware that checks."""
    client, task = as_("superuser"), row("pending")
    actions = [url for url in URLS if _takes_post(client, url)]
    assert f"/tasks/{ID}/cancel/" in actions
    for url in actions:
        answer = client.post(url.replace(ID, str(task.id)))
        assert answer.status_code == 403, url
        assert "CSRF token" in answer.content.decode()
    logged = [it.getMessage() for it in caplog.records if it.name == "django.security.csrf"]
    assert len(logged) == len(actions)
    assert all(it.startswith("Forbidden (CSRF") for it in logged), logged
    task.refresh_from_db()
    assert task.status == "pending"


def test_a_form_works_without_csrf_middleware(
    as_: Callable[[str], Client], row: Callable[..., Any], settings: Any
) -> None:
    """The gate sets the cookie itself."""
    settings.MIDDLEWARE = [it for it in settings.MIDDLEWARE if "Csrf" not in it]
    client, task = as_("superuser"), row("pending")
    data = {"csrfmiddlewaretoken": token_of(client)}
    assert client.post(f"/tasks/{task.id}/cancel/", data).status_code == 302


def test_anonymous_callers_go_to_the_admins_login(client: Client) -> None:
    """And come back to where they wanted to go, filter and all."""
    answer = client.get("/tasks/?q=state:failed")
    assert answer["Location"] == "/admin/login/?next=/tasks/%3Fq%3Dstate%3Afailed"


def test_anonymous_callers_go_to_the_projects_login(client: Client, settings: Any) -> None:
    """Where LOGIN_URL is set."""
    settings.LOGIN_URL = "/come/in/"
    assert client.get("/tasks/")["Location"] == "/come/in/?next=/tasks/"


def test_a_user_without_the_right_may_sign_in_as_another(as_: Callable[[str], Client]) -> None:
    """The refusal names the permission, and leads to the login and back."""
    text = as_("plain").get("/tasks/queues/").content.decode()
    assert "rail_async_tasks.view_taskexecution" in text
    assert 'href="/admin/login/?next=/tasks/queues/"' in text


class Alone:
    urlpatterns = (path("ops/", include("rail_async_tasks.urls.dashboard")),)


@pytest.fixture
def alone(settings: Any) -> Iterator[None]:
    """The dashboard at another place, in a project without the admin's URLs."""
    settings.ROOT_URLCONF = Alone
    clear_url_caches()
    yield
    clear_url_caches()


def test_without_a_page_to_sign_in(alone: None, client: Client) -> None:
    """The answer says what is missing."""
    answer = client.get("/ops/tasks/")
    assert answer.status_code == 401
    assert "set LOGIN_URL" in answer.content.decode()


def test_at_a_place_of_its_own(
    alone: None, as_: Callable[[str], Client], row: Callable[..., Any]
) -> None:
    """All links lead to that place; other edges find it."""
    task = row("pending")
    text = as_("superuser").get("/ops/tasks/").content.decode()
    assert f'href="/ops/tasks/{task.id}/"' in text
    assert 'href="/tasks/' not in text
    assert page_url("task", task.id) == f"/ops/tasks/{task.id}/"


def test_under_a_script_name(
    as_: Callable[[str], Client], row: Callable[..., Any], settings: Any
) -> None:
    """Links, forms, assets and the stream have the prefix; so has the way back from the login."""
    settings.FORCE_SCRIPT_NAME = "/app"
    set_script_prefix("/app/")  # as the handlers of WSGI and ASGI do
    task = row("pending")
    try:
        text = as_("superuser").get("/tasks/").content.decode()
        for part in (
            f'href="/app/tasks/{task.id}/"',
            f'formaction="/app/tasks/{task.id}/cancel/"',
            'src="/app/tasks/assets/live.js"',
            'data-live="/app/tasks/live?',
            'name="next" value="/app/tasks/"',
        ):
            assert part in text
        answer = Client().get("/tasks/")
        assert answer["Location"] == "/app/admin/login/?next=/app/tasks/"
    finally:
        set_script_prefix("/")


@pytest.mark.parametrize("kind", ["anonymous", "plain", "superuser"])
def test_headers_of_every_answer(kind: str, as_: Callable[[str], Client]) -> None:
    """Refusals and redirects included: no cache keeps them, no frame holds them, nothing inline."""
    client = as_(kind)
    for url in URLS:
        answer = client.get(url)
        policy = answer["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "no-store" in answer["Cache-Control"]
        assert {"Cookie", "Authorization"} <= set(answer["Vary"].split(", "))
        assert answer["X-Frame-Options"] == "DENY"
        assert answer["X-Content-Type-Options"] == "nosniff"


def test_nothing_inline_and_nothing_from_elsewhere(
    as_: Callable[[str], Client], row: Callable[..., Any]
) -> None:
    """What the policy forbids is not on any page."""
    row("failed", error="x", error_type="KeyError")
    client = as_("superuser")
    for url in URLS:
        text = client.get(url).content.decode()
        assert " style=" not in text, url
        assert "<style" not in text, url
        assert "<script>" not in text, url
        assert "://" not in text.replace("http://www.w3.org", ""), url


def test_tasks_in_memory_are_not_shown(as_: Callable[[str], Client], settings: Any) -> None:
    """The page names the setting and the remedy."""
    client = as_("superuser")
    settings.RAIL_DJANGO_GRAPHQL = {"task_settings": {"track_in_database": False}}
    answer = client.get("/tasks/")
    assert answer.status_code == 503
    assert "track_in_database" in answer.content.decode()


def test_assets_are_for_everybody_and_checked_again(client: Client) -> None:
    """They hold nothing of any task; an upgraded package never meets an old script."""
    answer = client.get("/tasks/assets/live.js")
    assert answer.status_code == 200
    assert answer["Cache-Control"] == "private, no-cache"
    etag = answer["ETag"]
    assert client.get("/tasks/assets/live.js", headers={"If-None-Match": etag}).status_code == 304
    for name in ("nothing.js", "..%2fgate.py", "gate.py"):
        assert client.get(f"/tasks/assets/{name}").status_code == 404
