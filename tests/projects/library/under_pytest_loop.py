"""A last test whose runtime lives in its own loop. Run by `tests/testing`."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from rail_async_tasks.hosting import process
from tests.projects.library.tasks import on_loop


@pytest.fixture
async def own() -> AsyncIterator[None]:
    """A fixture of the project that ends the runtime by itself."""
    yield
    assert process.current() is not None
    await process.astop()


@pytest.mark.django_db(transaction=True)
async def test_the_last_test_leaves_a_runtime(own: None) -> None:
    handle = await on_loop.aenqueue()
    await handle.aresult(60)
