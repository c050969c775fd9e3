"""A queue that is paused while two workers of each backend work on it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from devservers.redis import RedisServer
from tests.backends.faults import forms, world_of
from tests.backends.kinds import Kind
from tests.backends.world import World
from tests.support.pauses import assert_paused_under_load, leave

pytestmark = [pytest.mark.postgres, pytest.mark.redis]


@pytest.fixture(scope="module")
def world(
    kind: Kind, broker_server: RedisServer, postgres_server: Any, django_db_blocker: Any
) -> Iterator[World]:
    with world_of(kind, broker_server.url, postgres_server, django_db_blocker) as it:
        it.serve()
        for _ in range(2):
            it.work(slots=2)
        yield it


@forms(long=1000)
async def test_pause_under_load(world: World, size: int) -> None:
    """Also where the process that pauses dies at once; after the resume everything runs, once."""
    rows = partial(leave, "backends.wait", size, seconds=0.05)
    await assert_paused_under_load(world.env, world.task_settings, rows, seconds=240)
