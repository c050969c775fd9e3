"""A mutation's body runs in the language that `LocaleMiddleware` finds for the request."""

from __future__ import annotations

import json
from typing import Any

import pytest
import strawberry
from django.conf import settings as django_settings
from django.utils import translation
from django.utils.translation import gettext

from rail_async_tasks import service, task_mutation
from rail_async_tasks.access import SYSTEM
from rail_async_tasks.language import LOCALE_MIDDLEWARE
from tests.rest.conftest import Rest, end_of
from tests.support.sockets import connected

pytestmark = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


@task_mutation(name="lang.over_http")
async def speak() -> list[str]:
    return [translation.get_language() or "", gettext("Monday")]


@task_mutation(name="lang.over_http_in_thread")
def say() -> list[str]:
    return [translation.get_language() or "", gettext("Monday")]


@strawberry.type
class Mutations:
    speak = speak
    say = say


@pytest.mark.parametrize("backend", ["asyncio", "thread", "sync"])
@pytest.mark.parametrize("field", ["speak", "say"])
async def test_the_language_of_a_request(
    anonymous: Rest, settings: Any, backend: str, field: str
) -> None:
    """By its Accept-Language here; the next request has its own."""
    settings.MIDDLEWARE = [*django_settings.MIDDLEWARE, LOCALE_MIDDLEWARE]
    settings.RAIL_DJANGO_GRAPHQL = {
        "schema_settings": {"mutation_extensions": [f"{__name__}.Mutations"]},
        "task_settings": {"backend": backend},
    }
    for accept, expected in (("de", ["de", "Montag"]), ("fr", ["fr", "lundi"])):
        response = await anonymous.client.post(
            "/graphql/", data=json.dumps({"query": f"mutation {{ {field} {{ taskId }} }}"}),
            content_type="application/json", headers={"accept-language": accept},
        )  # fmt: skip
        task_id = response.json()["data"][field]["taskId"]
        await end_of(task_id)
        assert (await service.aget(SYSTEM, task_id)).result == expected


@pytest.mark.parametrize("has_middleware", [True, False])
async def test_the_language_of_a_socket(
    anonymous: Rest, settings: Any, has_middleware: bool
) -> None:
    """By its handshake, where the project asks Django for languages at all."""
    if has_middleware:
        settings.MIDDLEWARE = [*django_settings.MIDDLEWARE, LOCALE_MIDDLEWARE]
    settings.RAIL_DJANGO_GRAPHQL = {
        "schema_settings": {"mutation_extensions": [f"{__name__}.Mutations"]},
        "task_settings": {},
    }
    async with connected(accept_language="de") as socket:
        await socket.subscribe("mutation { speak { taskId } }")
        task_id = (await socket.receive())["payload"]["data"]["speak"]["taskId"]
        await end_of(task_id)
    expected = ["de", "Montag"] if has_middleware else ["en-us", "Monday"]
    assert (await service.aget(SYSTEM, task_id)).result == expected
    assert translation.get_language() == "en-us"
