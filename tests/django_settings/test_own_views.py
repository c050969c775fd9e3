"""Every view that `rail_async_tasks.urls` serves has `own_view` around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import caches
from django.test import AsyncClient, Client
from django.urls import URLPattern, URLResolver, get_resolver, path
from django.utils.decorators import method_decorator

from rail_async_tasks import task
from rail_async_tasks.graphql.views import TaskGraphQLView
from rail_async_tasks.rest.routes import ROUTES
from rail_async_tasks.urls import urlpatterns
from tests.projects import shop

ONE_DATABASE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
ID = "01890a5d-ac96-774b-bcce-b302099a8057"

# The URLs, each with the answer that a caller without a credential gets. Those whose answers are
# the same for all callers may be cached: they say how long themselves.
ANSWERS = {
    "graphql/": 400,  # a GET without a query
    "graphql/console.js": 200,
    "api/v1/tasks/": 200,
    f"api/v1/tasks/{ID}/": 404,
    f"api/v1/tasks/{ID}/cancel/": 405,
    f"api/v1/tasks/{ID}/retry/": 405,
    f"api/v1/tasks/{ID}/events/": 404,
    "api/v1/openapi.json": 200,
    "tasks/": 302,  # to a page where one signs in
    "tasks/assets/live.js": 200,
    "tasks/live": 302,
    "tasks/errors/": 302,
    "tasks/queues/": 302,
    "tasks/queues/pause/": 405,
    "tasks/queues/resume/": 405,
    "tasks/processes/": 302,
    "tasks/schedules/": 302,
    "tasks/schedules/run/": 405,
    "tasks/charts/": 302,
    "tasks/bulk/retry/": 302,
    "tasks/bulk/cancel/": 302,
    f"tasks/{ID}/": 302,
    f"tasks/{ID}/arguments/": 302,
    f"tasks/{ID}/cancel/": 405,
    f"tasks/{ID}/retry/": 405,
    "tasks/metrics": 401,
    "tasks/health/live": 200,
    "tasks/health/ready": 200,
}
SAME_FOR_ALL = {
    "graphql/console.js": "private, no-cache",
    "api/v1/openapi.json": "public, max-age=3600",
    "tasks/assets/live.js": "private, no-cache",
}
PER_SITE_CACHE = [
    "django.middleware.cache.UpdateCacheMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.middleware.cache.FetchFromCacheMiddleware",
]
MINE = {"query": "{ tasks { id name } }"}


@task(name="settings.quick")
async def quick(value: str = "") -> str:
    return value


def patterns(found: list[Any]) -> Iterator[URLPattern]:
    for pattern in found:
        if isinstance(pattern, URLResolver):
            yield from patterns(pattern.url_patterns)
        else:
            yield pattern


def test_every_view_is_exempt_from_rules_for_pages() -> None:
    """Each pattern's function has the marks, so that a view added later cannot miss them."""
    for pattern in patterns(urlpatterns):
        view: Any = pattern.callback
        exempt = getattr(view, "_non_atomic_requests", ())
        assert "an alias of later" in exempt, pattern
        assert getattr(view, "login_required", True) is False, pattern
        assert getattr(view, "csrf_exempt", False) is True, pattern


def test_the_table_above_has_every_url() -> None:
    """A URL added later gets a line there."""
    asked = {id(get_resolver().resolve("/" + url).func) for url in ANSWERS}
    served = {id(pattern.callback) for pattern in patterns(urlpatterns)}
    any_other = get_resolver().resolve("/api/v1/tasks/a/b/c").func
    assert asked | {id(any_other)} >= {id(route.view) for route in ROUTES}
    # `TaskGraphQLView.as_view()` is one function per pattern.
    assert served == asked | {id(any_other)}


@pytest.fixture
def strict(settings: Any, tasks_settings: Callable[..., None]) -> None:
    """Rules that a project may have set for its pages."""
    tasks_settings(backend="sync", metrics_enabled=True, console=True)
    settings.MIDDLEWARE = [
        *settings.MIDDLEWARE,
        "django.contrib.auth.middleware.LoginRequiredMiddleware",
    ]


@pytest.fixture
def tasks_settings(settings: Any) -> Callable[..., None]:
    def set_(**task_settings: Any) -> None:
        settings.RAIL_DJANGO_GRAPHQL = {**shop.SETTINGS, "task_settings": task_settings}

    return set_


@pytest.fixture
def atomic_requests(database: object) -> Iterator[None]:
    """Sets what Django reads for each request."""
    from django.db import connections

    connections.settings["default"]["ATOMIC_REQUESTS"] = True
    yield
    connections.settings["default"]["ATOMIC_REQUESTS"] = False


@ONE_DATABASE
@pytest.mark.parametrize("url", ANSWERS)
async def test_no_setting_for_pages_gets_in_the_way(
    atomic_requests: None, strict: None, url: str
) -> None:
    """With `ATOMIC_REQUESTS` and `LoginRequiredMiddleware` each view answers as without.

    No cache stores an answer that depends on its caller, a refusal included.
    """
    response = await AsyncClient().get("/" + url)
    assert response.status_code == ANSWERS[url], response
    if url in SAME_FOR_ALL:
        assert response["Cache-Control"] == SAME_FOR_ALL[url]
    else:
        assert {"no-store", "private"} <= set(response["Cache-Control"].split(", "))
        assert {"Cookie", "Authorization"} <= set(response["Vary"].split(", "))


@ONE_DATABASE
def test_wsgi_is_no_exception(atomic_requests: None, strict: None) -> None:
    """The same under WSGI, where Django runs async views in a loop of its own."""
    for url, status in ANSWERS.items():
        response = Client().get("/" + url)
        assert response.status_code == status, url
        assert "Cache-Control" in response, url


def _wrapped(dispatch: Any) -> Any:
    async def around(*args: Any, **kwargs: Any) -> Any:
        return await dispatch(*args, **kwargs)

    return around


@method_decorator(_wrapped, name="dispatch")
class ProjectsView(TaskGraphQLView):
    """A project's subclass, whose `dispatch` has none of our marks."""


class ProjectsUrls:
    urlpatterns = (path("graphql/", ProjectsView.as_view()),)


@ONE_DATABASE
async def test_a_subclass_of_the_view_is_marked_too(
    atomic_requests: None, strict: None, settings: Any
) -> None:
    """Also one that puts a `dispatch` of its own in place of ours."""
    settings.ROOT_URLCONF = ProjectsUrls
    response = await AsyncClient().post("/graphql/", MINE, content_type="application/json")
    assert (response.status_code, response.json()) == (200, {"data": {"tasks": []}})
    assert "no-store" in response["Cache-Control"]


# --- the per-site cache ---------------------------------------------------------------------------


def user_of_key(request: Any) -> User | None:
    """An `authenticator` of API keys: a header that no `Vary` names."""
    return User.objects.filter(username=request.headers.get("X-Api-Key", "")).first()


@pytest.fixture
def cached(settings: Any) -> Iterator[None]:
    settings.MIDDLEWARE = PER_SITE_CACHE
    yield
    caches["default"].clear()


@ONE_DATABASE
@pytest.mark.parametrize(
    "url", ["/graphql/?query={tasks{id}}", "/api/v1/tasks/", "/api/v1/tasks/%s/events/"]
)
async def test_a_per_site_cache_mixes_no_users(
    cached: None, tasks_settings: Callable[..., None], database: object, url: str
) -> None:
    """Callers with different API keys get different answers."""
    tasks_settings(backend="sync", authenticator=f"{__name__}.user_of_key")
    ada = await User.objects.acreate(username="ada")
    await User.objects.acreate(username="bob")
    mine = await quick.using(owner=ada).aenqueue()
    url = url.replace("%s", str(mine.id))

    async def seen_by(key: str) -> bytes:
        response = await AsyncClient().get(url, headers={"X-Api-Key": key})
        if response.streaming:
            return b"".join([part async for part in response.streaming_content])
        return bytes(response.content)

    assert str(mine.id).encode() in await seen_by("ada")
    assert str(mine.id).encode() not in await seen_by("bob")


@ONE_DATABASE
async def test_a_poller_sees_a_change_at_once(
    cached: None, tasks_settings: Callable[..., None], database: object
) -> None:
    """By session, behind a per-site cache: the second answer is not the first one again."""
    tasks_settings(backend="sync")
    ada = await User.objects.acreate(username="ada")
    client = AsyncClient()
    await client.aforce_login(ada)
    for url in ("/graphql/?query={tasks{id}}", "/api/v1/tasks/"):
        before = await client.get(url)
        handle = await quick.using(owner=ada).aenqueue()
        after = await client.get(url)
        assert str(handle.id).encode() not in before.content
        assert str(handle.id).encode() in after.content


@ONE_DATABASE
async def test_a_probe_is_answered_anew(cached: None, database: object) -> None:
    """A probe of a process that has stopped meanwhile must not get the answer of before."""
    client = AsyncClient()
    for url in ("/tasks/health/live", "/tasks/health/ready"):
        await client.get(url)
        assert len(caches["default"]._cache) == 0  # type: ignore[attr-defined]
