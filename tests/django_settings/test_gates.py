"""`LoginRequiredMiddleware` and other gates in front of a project's pages."""

from __future__ import annotations

from typing import Any

import pytest

from rail_async_tasks.asgi import get_asgi_application
from tests.django_settings.conftest import Configure
from tests.django_settings.driver import Driver

ONE_DATABASE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
MUTATION = "mutation { add(a: 1) { taskId } }"


@ONE_DATABASE
@pytest.mark.usefixtures("running")
@pytest.mark.parametrize("access", ["by_id", "deny"])
async def test_without_a_credential_every_edge_says_the_same(
    configure: Configure, settings: Any, access: str
) -> None:
    """Behind `LoginRequiredMiddleware`: what `anonymous_access` says, over HTTP and WebSocket."""
    configure(backend="asyncio", anonymous_access=access)
    settings.MIDDLEWARE = [
        *settings.MIDDLEWARE, "django.contrib.auth.middleware.LoginRequiredMiddleware",
    ]  # fmt: skip
    driver = Driver(get_asgi_application())
    body = b'{"query": "%s"}' % MUTATION.encode()
    over_http = (
        await driver.http("POST", "/graphql/", body, content_type="application/json")
    ).json()
    (over_socket,) = await driver.over_socket(MUTATION)
    listed = await driver.http("GET", "/api/v1/tasks/")
    if access == "by_id":
        assert over_http["data"]["add"]["taskId"]
        assert over_socket["add"]["taskId"]
        assert (listed.status, listed.json()["results"]) == (200, [])
    else:
        assert over_http["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
        assert listed.status == 401
        assert "UNAUTHENTICATED" in str(over_socket)
