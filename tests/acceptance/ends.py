"""Streams without an end of their own, and their end and their tasks' when the server stops."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, suppress
from typing import Any

import httpx
from websockets.exceptions import ConnectionClosed

from rail_async_tasks.models import TaskExecution
from tests.support.client import FOLLOW, FOLLOW_MINE, Client, subscribe
from tests.support.waiting import TIMEOUT


async def left_open(
    client: Client, ids: list[str], stack: AsyncExitStack
) -> tuple[list[Any], list[Any]]:
    """Opens sockets and SSE streams of every kind that none of these tasks will end."""
    sockets, streams = [], []
    for query in (FOLLOW, FOLLOW_MINE):
        for task_id in ids:
            ws = await stack.enter_async_context(client.socket())
            await subscribe(ws, query, {"id": task_id} if query == FOLLOW else {})
            await ws.recv()
            sockets.append(ws)
            lines = await stack.enter_async_context(
                client.sse(query, {"id": task_id} if query == FOLLOW else {})
            )
            await anext(lines)
            streams.append(lines)
    idle = await stack.enter_async_context(client.socket())
    return [*sockets, idle], streams


async def end_of_stream(events: Any) -> list[str]:
    """The names of the events that an SSE stream still says."""
    names = []
    with suppress(httpx.RemoteProtocolError, httpx.ReadError):  # it may be cut off, too
        async with asyncio.timeout(TIMEOUT):
            async for name, _ in events:
                names.append(name)
    return names


async def end_of_socket(ws: Any) -> tuple[int | None, list[str]]:
    """The code with which a socket is closed, and the kinds of messages that come before."""
    said = []
    try:
        async with asyncio.timeout(TIMEOUT):
            while True:
                said.append(json.loads(await ws.recv())["type"])
    except ConnectionClosed as closed:
        return (None if closed.rcvd is None else closed.rcvd.code), said


async def handed_back(ids: list[str]) -> None:
    """The rows wait for another process, as if the attempt had not been."""
    for task_id in ids:
        row = await TaskExecution.objects.aget(id=task_id)
        assert (row.status, row.retry_count, row.attempts) == ("retrying", 0, 1)
        assert row.run_after is None
        assert row.runtime_id is None
