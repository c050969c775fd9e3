"""The tables that the views work by, and the OpenAPI document that is made of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client, override_settings
from django.urls import include, path
from openapi_spec_validator import OpenAPIV31SpecValidator

from rail_async_tasks.errors import (
    BackendUnavailable,
    ConfigurationError,
    QueueFull,
    RateLimited,
    TaskError,
)
from rail_async_tasks.rest.refusals import ANSWERS, refused

URL = "/api/v1/openapi.json"

# The API under a project's own prefix, with a part that varies.
urlpatterns = [path("back end/<str:tenant>/", include("rail_async_tasks.urls"))]
MOUNTED = override_settings(ROOT_URLCONF=__name__)


@pytest.mark.parametrize("code", sorted(ANSWERS))
def test_every_refusal_of_the_package_has_a_status(code: str) -> None:
    """The statuses of the API, and no others."""
    assert ANSWERS[code].status in (400, 401, 403, 404, 405, 409, 429, 500, 503)


def subclasses(of: type[TaskError]) -> set[type[TaskError]]:
    return {of} | {found for it in of.__subclasses__() for found in subclasses(it)}


def test_every_code_is_in_the_table() -> None:
    """But for those that no caller of REST can meet: of declarations, results, documents."""
    elsewhere = {"TASK_ERROR", "TASK_FAILED", "TASK_CANCELLED", "TOO_COMPLEX"}
    assert {it.code for it in subclasses(TaskError)} - elsewhere == set(ANSWERS)


def test_a_wait_is_given_in_whole_seconds() -> None:
    """Rounded up, at least one: never so that the client comes back too early."""
    for error, seconds in (
        (QueueFull(retry_after=0.2), "1"),
        (RateLimited(retry_after=7.01), "8"),
        (QueueFull(), "1"),
        (BackendUnavailable(), "5"),
        (ConfigurationError("x"), "5"),
    ):
        response: HttpResponse = refused(error)
        assert response["Retry-After"] == seconds


# --- the document --------------------------------------------------------------------------------


def document() -> Any:
    response = Client().get(URL)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    return response.json()


def test_the_document_is_valid() -> None:
    """By the schema of OpenAPI 3.1 and the rules beyond it."""
    found = document()
    assert found["openapi"].startswith("3.1")
    assert list(OpenAPIV31SpecValidator(found).iter_errors()) == []


def test_the_document_has_every_operation_with_its_statuses() -> None:
    """The parts of the document that a client may build on."""
    found = {
        f"{method} {url}": sorted(map(int, operation["responses"]))
        for url, operations in document()["paths"].items()
        for method, operation in operations.items()
    }
    assert found == {
        "get /api/v1/tasks/": [200, 400, 401, 500, 503],
        "get /api/v1/tasks/{id}/": [200, 400, 401, 404, 500, 503],
        "post /api/v1/tasks/{id}/cancel/": [200, 400, 401, 403, 404, 409, 500, 503],
        "post /api/v1/tasks/{id}/retry/": [201, 400, 401, 403, 404, 409, 429, 500, 503],
        "get /api/v1/tasks/{id}/events/": [200, 400, 401, 404, 429, 500, 503],
    }


@pytest.mark.parametrize(
    "task_settings", [{"enabled": False}, {"anonymous_access": "deny"}, {"backend": "no"}]
)
def test_the_document_is_public_and_cached(settings: Any, task_settings: Any) -> None:
    """It has no data of tasks, and changes with a release only."""
    before = document()
    settings.RAIL_DJANGO_GRAPHQL = {"task_settings": task_settings}
    assert document() == before
    response = Client().get(URL)
    assert "public" in response.headers["Cache-Control"]
    assert Client().head(URL).status_code == 200
    again = Client().get(URL, headers={"if-none-match": response.headers["ETag"]})
    assert again.status_code == 304
    refusal = Client(enforce_csrf_checks=True).post(URL)
    assert (refusal.status_code, refusal.headers["Allow"]) == (405, "GET, HEAD")


@MOUNTED
def test_the_document_says_where_the_api_is_mounted() -> None:
    """By the path under which it was asked for."""
    response = Client().get("/back%20end/red/api/v1/openapi.json")
    assert json.loads(response.content)["servers"] == [{"url": "/back%20end/red"}]


@MOUNTED
def test_an_api_that_is_mounted_elsewhere_works(settings: Any) -> None:
    """Its views do not mind what else the URL says; a `Location` has it too."""
    from rail_async_tasks.rest.endpoint import root_url

    response = Client().get("/back%20end/red/api/v1/tasks/no-id/")
    assert (response.status_code, response.json()["error"]["code"]) == (404, "NOT_FOUND")
    request: Any = response.wsgi_request
    assert root_url(request) == "/back%20end/red/api/v1/tasks/"
