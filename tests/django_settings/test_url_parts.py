"""`rail_async_tasks.urls` whole, and in parts at places of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.checks.urls import check_url_config, check_url_namespaces_unique
from django.test import Client
from django.urls import NoReverseMatch, clear_url_caches, include, path, reverse, set_urlconf

from rail_async_tasks.checks.middleware import check_probes
from tests.projects import shop

ID = "01890a5d-ac96-774b-bcce-b302099a8057"


class Whole:
    urlpatterns = (path("", include("rail_async_tasks.urls")),)


class Parts:
    urlpatterns = (
        path("api/", include("rail_async_tasks.urls.graphql")),
        path("rest/", include("rail_async_tasks.urls.rest")),
        path("ops/", include("rail_async_tasks.urls.health")),
        path("ops/", include("rail_async_tasks.urls.dashboard")),
    )


@pytest.fixture
def use(settings: Any) -> Iterator[Any]:
    settings.RAIL_DJANGO_GRAPHQL = {
        **shop.SETTINGS,
        "task_settings": {"backend": "sync", "track_in_database": False},
    }

    def use_(urls: Any) -> None:
        settings.ROOT_URLCONF = urls
        clear_url_caches()
        set_urlconf(None)

    yield use_
    clear_url_caches()


def test_names_of_the_whole(use: Any) -> None:
    """One namespace."""
    use(Whole)
    assert reverse("rail_async_tasks:graphql") == "/graphql/"
    assert reverse("rail_async_tasks:task", args=[ID]) == f"/api/v1/tasks/{ID}/"
    assert reverse("rail_async_tasks:ready") == "/tasks/health/ready"
    assert reverse("rail_async_tasks:rail_async_tasks_dashboard:list") == "/tasks/"


def test_names_of_the_parts(use: Any) -> None:
    """GraphQL keeps its name; each other part has a namespace, as Django finds one include each."""
    use(Parts)
    assert reverse("rail_async_tasks:graphql") == "/api/graphql/"
    assert reverse("rail_async_tasks_rest:task", args=[ID]) == f"/rest/api/v1/tasks/{ID}/"
    assert reverse("rail_async_tasks_health:ready") == "/ops/tasks/health/ready"
    assert reverse("rail_async_tasks_dashboard:task", args=[ID]) == f"/ops/tasks/{ID}/"
    with pytest.raises(NoReverseMatch):
        reverse("rail_async_tasks:ready")


@pytest.mark.parametrize("urls", [Whole, Parts])
def test_django_s_checks_are_silent(use: Any, urls: Any) -> None:
    """About patterns, and about namespaces that are there twice."""
    use(urls)
    assert check_url_config(None) == []
    assert check_url_namespaces_unique(None) == []


def test_the_parts_answer(use: Any) -> None:
    """Each at its place, and nowhere else."""
    use(Parts)
    client = Client()
    answer = client.post("/api/graphql/", {"query": "{ shelves }"}, "application/json")
    assert answer.json() == {"data": {"shelves": 3}}
    assert client.get(f"/rest/api/v1/tasks/{ID}/").status_code == 404
    assert client.get("/rest/api/v1/tasks/").json() == {"results": [], "next": None}
    assert client.get("/rest/api/v1/openapi.json").json()["servers"] == [{"url": "/rest"}]
    assert client.get("/ops/tasks/health/live").status_code == 200
    for gone in ("/graphql/", "/rest/graphql/", "/tasks/health/live", "/api/tasks/health/live"):
        assert client.get(gone).status_code == 404


def test_one_part_alone(use: Any) -> None:
    """The rest of the package is not served then."""

    class Alone:
        urlpatterns = (path("", include("rail_async_tasks.urls.rest")),)

    use(Alone)
    assert Client().get("/api/v1/tasks/").status_code == 200
    assert Client().get("/graphql/").status_code == 404


@pytest.mark.parametrize(("urls", "live"), [(Whole, "/tasks/"), (Parts, "/ops/tasks/")])
def test_probes_are_found_in_either(use: Any, settings: Any, urls: Any, live: str) -> None:
    """The check of redirected probes names their URLs."""
    use(urls)
    settings.SECURE_SSL_REDIRECT = True
    settings.SECURE_REDIRECT_EXEMPT = []
    settings.MIDDLEWARE = ["django.middleware.security.SecurityMiddleware"]
    (warning,) = check_probes(None)
    assert f"{live}health/live" in warning.msg
