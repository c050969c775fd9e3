"""Clients, tasks in some state, and requests whose answers are checked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import AsyncClient

from rail_async_tasks import service
from rail_async_tasks.access import SYSTEM
from rail_async_tasks.hosting import process as host
from tests.rest import shelf
from tests.rest.spec import conform
from tests.support.places import place
from tests.support.waiting import TIMEOUT

__all__ = ["place"]

Configure = Callable[..., None]

ROOT = "/api/v1/tasks/"
MISSING = "01890a5d-ac96-774b-bcce-b302099a8057"


@pytest.fixture
def configure(settings: Any) -> Configure:
    """Sets task settings. The fixture alone sets none."""

    def set_(**task_settings: Any) -> None:
        settings.RAIL_DJANGO_GRAPHQL = {"task_settings": task_settings}

    set_()
    return set_


class Rest:
    """A caller who sends requests, in process. Each answer is held to the OpenAPI document."""

    def __init__(self, user: User | None = None) -> None:
        self.client = AsyncClient()
        self.user = user

    async def send(self, method: str, path: str = "", **options: Any) -> Any:
        """The response; `path` is relative to the list's."""
        response = await self.client.generic(method, ROOT + path, **options)
        conform(method, ROOT + path, response)
        return response

    async def get(self, path: str = "", **options: Any) -> Any:
        return await self.send("GET", path, **options)

    async def post(self, path: str, **options: Any) -> Any:
        return await self.send("POST", path, **options)

    async def ids(self, query: str = "") -> list[str]:
        """The ids of a list."""
        response = await self.get(query)
        assert response.status_code == 200, response.content
        return [task["id"] for task in response.json()["results"]]


@pytest.fixture
async def world(database: object, configure: Configure, anyio_backend: Any) -> AsyncIterator[None]:
    """The gate is closed; the runtime lives in the test's loop, and ends with the test."""
    shelf.gate.close()
    yield
    shelf.gate.go.set()
    await host.astop()


@pytest.fixture
async def anonymous(world: None) -> Rest:
    """Without a credential."""
    return Rest()


@pytest.fixture
async def ada(world: None) -> Rest:
    return await logged_in("ada")


@pytest.fixture
async def bob(world: None) -> Rest:
    return await logged_in("bob")


async def logged_in(name: str, **fields: Any) -> Rest:
    """A new user, with a session."""
    user = await User.objects.acreate(username=name, **fields)
    rest = Rest(user)
    await rest.client.aforce_login(user)
    return rest


async def start(task: Any, owner: Rest | None = None, **arguments: Any) -> str:
    """Starts a task for a user (None: without an owner). Returns its id."""
    user = None if owner is None else owner.user
    handle = await task.using(owner=user).aenqueue(**arguments)
    return str(handle.id)


async def finished(task: Any, owner: Rest | None = None, **arguments: Any) -> str:
    """Starts a task and waits for its end. Returns its id."""
    task_id = await start(task, owner, **arguments)
    await end_of(task_id)
    return task_id


async def end_of(task_id: str) -> None:
    async with asyncio.timeout(TIMEOUT):
        async for snapshot in service.watch(SYSTEM, task_id):
            if snapshot.is_final:
                return


async def waiting(owner: Rest | None = None) -> str:
    """A task that runs until the gate is opened. Returns its id."""
    task_id = await start(shelf.wait, owner)
    await asyncio.wait_for(shelf.gate.started.wait(), TIMEOUT)
    return task_id


def code_of(response: Any) -> str:
    return str(response.json()["error"]["code"])
