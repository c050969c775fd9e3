"""Task settings, and tasks with nothing but a value to bring home."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from rail_async_tasks.hosting import process as host
from tests.projects import shop

Configure = Callable[..., None]


@pytest.fixture
def configure(settings: Any) -> Configure:
    """Sets task settings, beside the shop's schema settings."""

    def set_(**task_settings: Any) -> None:
        settings.RAIL_DJANGO_GRAPHQL = {**shop.SETTINGS, "task_settings": task_settings}

    set_()
    return set_


@pytest.fixture
async def running(database: object, configure: Configure) -> AsyncIterator[None]:
    """Tasks run in the test's loop, until the test ends."""
    yield
    await host.astop()
