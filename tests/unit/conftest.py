"""A runtime in the test's own loop, with its rows in memory: for tests of the service."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser

from rail_async_tasks.hosting import process as host
from tests.unit.service_world import gate

Configure = Callable[..., None]


@pytest.fixture
def in_memory(settings: Any) -> Configure:
    """Sets task settings; rows are in memory."""

    def set_(**task_settings: Any) -> None:
        settings.RAIL_DJANGO_GRAPHQL = {
            "task_settings": {"track_in_database": False, **task_settings}
        }

    set_()
    return set_


@pytest.fixture
async def service_world(
    in_memory: Configure, monkeypatch: pytest.MonkeyPatch, anyio_backend: Any
) -> AsyncIterator[None]:
    """The gate is closed; what it holds goes on after the test, and the runtime ends."""
    # The owners of these tests are in no database, as rows are not either.
    module = importlib.import_module("rail_async_tasks.runtime.attempts.body")
    monkeypatch.setattr(module, "load_user", lambda owner_id: AnonymousUser())
    gate.close()
    yield
    gate.go.set()
    await host.astop()
