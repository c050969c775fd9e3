"""Audit rows of what callers do over GraphQL and REST: with the caller as the actor."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth.models import User

from rail_async_tasks import service
from rail_async_tasks.models import TaskEvent
from rail_async_tasks.registry import registry
from rail_async_tasks.service import EnqueueOptions
from tests.support.api import Api, Configure

pytestmark = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


async def actors(task_id: str | UUID) -> list[tuple[str, str | None]]:
    """The reason and the actor of each event, but for those of the process that runs it."""
    events = TaskEvent.objects.filter(execution_id=task_id).order_by("seq", "id")
    found = [(it.reason, it.actor) async for it in events]
    return [it for it in found if not str(it[1]).startswith("runtime")]


async def started(api: Api) -> str:
    answer = await api.send("mutation { add(a: 1) { taskId } }")
    return str(answer["data"]["add"]["taskId"])


async def waiting(owner: User) -> UUID:
    """A task of theirs that has not begun."""
    definition = registry.get("add")
    assert definition is not None
    options = EnqueueOptions(owner_id=str(owner.pk), delay=timedelta(hours=1))
    return (await service.aenqueue(definition, {"a": 1}, options)).id


async def test_the_caller_is_the_actor(api: Api, configure: Configure, database: object) -> None:
    """Of a start and of a retry: a user by their id, others as anonymous."""
    configure(backend="sync", audit_enabled=True)
    unsaid = await started(api)
    user = await User.objects.acreate(username="ada")
    await api.client.aforce_login(user)
    said = await started(api)
    answer = await api.send(f'mutation {{ retryTask(id: "{said}") {{ taskId }} }}')
    again = answer["data"]["retryTask"]["taskId"]
    assert await actors(unsaid) == [("created", "anonymous")]
    assert await actors(said) == [("created", str(user.pk))]
    assert await actors(again) == [("created", str(user.pk))]


@pytest.mark.parametrize("edge", ["graphql", "rest"])
async def test_who_cancels_is_not_who_owns(
    api: Api, configure: Configure, database: object, edge: str
) -> None:
    """A superuser cancels another user's task."""
    from rail_async_tasks.hosting import process as host

    configure(audit_enabled=True)
    try:
        owner = await User.objects.acreate(username="ada")
        root = await User.objects.acreate(username="root", is_superuser=True)
        await api.client.aforce_login(root)
        task_id = await waiting(owner)
        answer: Any
        if edge == "graphql":
            answer = await api.send(f'mutation {{ cancelTask(id: "{task_id}") {{ status }} }}')
            assert answer["data"]["cancelTask"]["status"] == "cancelled"
        else:
            answer = await api.client.post(f"/api/v1/tasks/{task_id}/cancel/")
            assert answer.status_code == 200
        assert await actors(task_id) == [("created", "system"), ("cancelled", str(root.pk))]
    finally:
        await host.astop()
