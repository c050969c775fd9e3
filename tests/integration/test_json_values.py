"""JSON values keep their types on their way: into a body and out of it, by every path."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import AsyncClient
from strawberry.scalars import JSON

from rail_async_tasks import Retry, TaskHandle, service, task
from rail_async_tasks.access import SYSTEM
from tests.support.json_values import CORNERS, same
from tests.support.runtimes import Configure
from tests.support.waiting import TIMEOUT, final

pytestmark = [pytest.mark.usefixtures("ends_cleanly"), pytest.mark.turns("store")]

VALUES = list(CORNERS)


def changed(found: Any) -> list[Any]:
    """Returns the values that came back as something else."""
    assert isinstance(found, list)
    assert len(found) == len(VALUES)
    return [(value, it) for value, it in zip(VALUES, found, strict=True) if not same(value, it)]


async def test_arguments_and_results(configure: Configure) -> None:
    """At once, after a delay, and after retries, each of which reads the row anew."""
    seen: list[tuple[int, Any]] = []

    @task(name="j.echo", max_retries=2)
    async def echo(info: Any, value: JSON, attempts: int = 1) -> JSON:
        seen.append((info.context.task.attempt, value))
        if info.context.task.attempt < attempts:
            raise Retry(delay=0)
        return value

    handles = [
        await echo.aenqueue(value=JSON(VALUES)),
        await echo.using(delay=0.001).aenqueue(value=JSON(VALUES)),
        await echo.aenqueue(value=JSON(VALUES), attempts=3),
    ]
    for handle in handles:
        assert changed(await handle.aresult(TIMEOUT)) == []
        assert changed((await final(handle)).result) == []
        assert changed((await service.aget(SYSTEM, handle.id)).result) == []
        watched = [snapshot async for snapshot in service.watch(SYSTEM, handle.id)]
        assert changed(watched[-1].result) == []
    assert sorted(attempt for attempt, _ in seen) == [1, 1, 1, 2, 3]
    assert [changed(value) for _, value in seen] == [[]] * 5


async def test_every_edge_shows_the_same(configure: Configure) -> None:
    """REST and its events, a GraphQL query and a subscription: each writes plain JSON."""

    @task(name="j.make")
    async def make() -> JSON:
        return JSON(VALUES)

    handle = await make.aenqueue()
    await final(handle)
    for read in (rest, rest_events, graphql, graphql_events):
        assert changed(await read(AsyncClient(), handle)) == [], read.__name__


async def rest(client: AsyncClient, handle: TaskHandle) -> Any:
    return (await client.get(f"/api/v1/tasks/{handle.id}/")).json()["result"]


async def rest_events(client: AsyncClient, handle: TaskHandle) -> Any:
    answer: Any = await client.get(f"/api/v1/tasks/{handle.id}/events/")
    *_, last = data_of(b"".join([part async for part in answer.streaming_content]))
    return last["result"]


async def graphql(client: AsyncClient, handle: TaskHandle) -> Any:
    document = f'{{ task(id: "{handle.id}") {{ result }} }}'
    answer = await client.post("/graphql/", {"query": document}, content_type="application/json")
    return answer.json()["data"]["task"]["result"]


async def graphql_events(client: AsyncClient, handle: TaskHandle) -> Any:
    document = f'subscription {{ taskProgress(taskId: "{handle.id}") {{ result }} }}'
    answer: Any = await client.post(
        "/graphql/",
        {"query": document},
        content_type="application/json",
        headers={"accept": "text/event-stream"},
    )
    events = list(data_of(b"".join([part async for part in answer.streaming_content])))
    return next(it for it in events if "data" in it)["data"]["taskProgress"]["result"]


def data_of(stream: bytes) -> Iterator[Any]:
    """The JSON of a stream's events that have some."""
    for line in stream.splitlines():
        name, _, data = line.partition(b":")
        if name == b"data" and data.strip():
            yield json.loads(data)
