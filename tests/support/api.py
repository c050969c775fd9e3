"""The shop of `projects.shop` over HTTP, in process. A conftest imports the fixtures."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.test import AsyncClient

from tests.projects import shop

Configure = Callable[..., None]


@pytest.fixture
def configure(settings: Any) -> Configure:
    """Sets task settings, beside the shop's schema settings."""

    def set_(**task_settings: Any) -> None:
        settings.RAIL_DJANGO_GRAPHQL = {**shop.SETTINGS, "task_settings": task_settings}

    return set_


class Api:
    """Sends operations over HTTP, in process."""

    def __init__(self) -> None:
        self.client = AsyncClient()

    async def send(self, query: str, variables: dict[str, Any] | None = None) -> Any:
        """The decoded answer."""
        response = await self.post({"query": query, "variables": variables})
        assert response.status_code == 200, response.content
        return response.json()

    async def post(self, body: Any, content_type: str = "application/json", **headers: str) -> Any:
        """The whole response, to a body that is JSON or, as bytes, anything."""
        data = body if isinstance(body, bytes) else json.dumps(body)
        return await self.client.post(
            "/graphql/", data=data, content_type=content_type, headers=headers
        )


@pytest.fixture
def api(configure: Configure) -> Api:
    """The shop over HTTP; tasks run inline, so that an answer already has the result."""
    configure(backend="sync")
    return Api()
