"""SIGTERM under load, with open WebSocket and SSE subscribers that come back elsewhere."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from asgiref.sync import sync_to_async
from django.http import HttpResponse
from django.test import RequestFactory
from websockets.exceptions import ConnectionClosed

from rail_async_tasks.auth.context import RequestContext
from rail_async_tasks.graphql.streams import without_farewell
from rail_async_tasks.hosting import server as hosted_server
from rail_async_tasks.models import TaskExecution, TaskRuntime
from tests.faults.fleet import Fleet, forms, gone, held, on, rows, until_final
from tests.support.client import FINAL, FOLLOW, Client, Event, subscribe
from tests.support.measures import report, spread
from tests.support.server import Server
from tests.support.waiting import TIMEOUT, eventually

DRAIN = 1.0
# Tasks that outlast the drain, and tasks that may end within it; each has two subscribers.
LONG, MEDIUM = 10, 10


class Follower:
    """Watches one task, and subscribes again until its end has come.

    A socket that is closed between the end and its `complete` is no reason to come back.
    """

    def __init__(self, clients: list[Client], task_id: str, transport: str) -> None:
        self.clients = clients  # the one that is drained, then the one that goes on
        self.task_id = task_id
        self.transport = transport
        self.events: list[Event] = []
        self.completed = 0
        self.ends: list[str] = []  # how streams ended that were not complete

    async def follow(self) -> Follower:
        async with asyncio.timeout(TIMEOUT):
            for client in [self.clients[0], self.clients[1], self.clients[1]]:
                if self.transport == "socket":
                    await self._by_socket(client)
                else:
                    await self._by_sse(client)
                if self.completed:
                    return self
        raise AssertionError(f"The streams of {self.task_id} ended without `complete`: {self.ends}")

    async def _by_socket(self, client: Client) -> None:
        async with client.socket() as ws:
            await subscribe(ws, FOLLOW, {"id": self.task_id})
            try:
                while True:
                    message = json.loads(await ws.recv())
                    if message["type"] == "complete":
                        self.completed += 1
                        return
                    assert message["type"] == "next", message
                    self.events.append(message["payload"]["data"]["taskProgress"])
            except ConnectionClosed as closed:
                if self.events and self.events[-1]["status"] in FINAL:
                    self.completed += 1
                self.ends.append(str(closed.rcvd.code if closed.rcvd else "cut"))

    async def _by_sse(self, client: Client) -> None:
        try:
            async with client.sse(FOLLOW, {"id": self.task_id}) as lines:
                async for name, data in lines:
                    if name == "complete":
                        self.completed += 1
                        return
                    self.events.append(data["data"]["taskProgress"])
        except httpx.RemoteProtocolError:
            self.ends.append("cut")
        else:
            self.ends.append("ended")


async def keep_busy(clients: list[Client], over: asyncio.Event) -> list[str]:
    """Starts short tasks without a pause, at the second server once the first refuses."""
    ids = []
    while not over.is_set():
        call = f"work(seconds: {random.uniform(0.02, 0.4):.2f})"
        for client in clients:
            try:
                response = await client.post(f"mutation {{ it: {call} {{ taskId }} }}")
                ids.append(response.json()["data"]["it"]["taskId"])
                break
            except (httpx.TransportError, ValueError, KeyError, TypeError):
                continue  # it refuses, or is gone
        else:
            raise AssertionError("Neither server takes tasks.")
        await asyncio.sleep(0.01)
    return ids


@sync_to_async
def left_running(pid: int) -> int:
    """Rows that are held by a process that is gone."""
    mine = TaskRuntime.objects.filter(place__endswith=f" {pid}")
    assert not mine.filter(dead=False).exists()
    holders = mine.values("id")
    return TaskExecution.objects.filter(status="running", runtime_id__in=holders).count()


async def drained(fleet: Fleet, server: Server, other: Server) -> tuple[float, Counter[str]]:
    """One round. Returns how long the exit took, and how streams were ended by it."""
    clients = [fleet.client(server), fleet.client(other)]
    medium = [f"work(seconds: {random.uniform(0.5, 2.5):.2f})" for _ in range(MEDIUM)]
    ids = await held(clients[0], ["work(seconds: 3600)"] * LONG)
    ids += await asyncio.gather(*(clients[0].start(call) for call in medium))
    followers = [Follower(clients, task_id, kind) for task_id in ids for kind in ("socket", "sse")]
    following = asyncio.gather(*(follower.follow() for follower in followers))
    over = asyncio.Event()
    busy = asyncio.gather(*(keep_busy(clients, over) for _ in range(4)))
    await eventually(lambda: all(follower.events for follower in followers))
    pid = server.pid
    taken = await gone(server)
    assert await left_running(pid) == 0
    assert await asyncio.to_thread(server.wait, TIMEOUT) in server.kind.exit_codes
    over.set()
    started = [task_id for some in await busy for task_id in some]
    for row in await until_final([*ids, *started]):
        assert (row.status, row.result) == ("completed", "done")
        assert (row.retry_count, row.crashes) == (0, 0)
        assert row.seq == 1 + 2 * row.attempts
    assert {row.attempts for row in await rows(ids[:LONG])} == {2}
    ends: Counter[str] = Counter()
    for follower in await following:
        final = [event for event in follower.events if event["status"] in FINAL]
        assert final == follower.events[-1:], "the end is seen once, and last"
        assert (final[0]["status"], final[0]["retryCount"]) == ("completed", 0)
        assert follower.completed == 1
        seqs = [event["seq"] for event in follower.events]
        assert seqs == sorted(seqs)
        ends.update(f"{follower.transport} {end}" for end in follower.ends)
    assert set(ends) <= {"socket 1012", "sse ended", "sse cut"}
    assert ends["socket 1012"] >= LONG
    assert ends["sse ended"] + ends["sse cut"] >= LONG
    assert server.alarms() == []
    return taken, ends


KINDS = ("uvicorn", "daphne", "uvicorn-uvloop")


@forms("rounds", on("postgres", 1), on("postgres", 5, long=True), on("sqlite", 5, long=True))
async def test_a_drain_under_load(database: Any, fleet: Fleet, rounds: int) -> None:
    """The exit waits for no body of an hour, no row is left, and each end is seen once."""
    settings = {"drain_seconds": DRAIN, "max_concurrency": 200}
    taken, ends = [], Counter[str]()
    first, second = await fleet.serve_many(2, **settings)
    for number in range(rounds):
        seconds, ended = await drained(fleet, first, second)
        taken.append(seconds)
        ends += ended
        if number + 1 < rounds:
            kind = KINDS[(number + 1) % len(KINDS)]
            first, second = second, await fleet.serve(kind=kind, **settings)
    report(
        "drain", database=database.kind, rounds=rounds, ends=ends, exit_seconds=spread(taken),
        tasks=len(await rows()),
    )  # fmt: skip


@pytest.mark.parametrize("ended", [True, False])
async def test_the_end_of_a_task_is_complete_also_while_its_process_ends(
    monkeypatch: pytest.MonkeyPatch, ended: bool
) -> None:
    """Or its subscriber would come back, and see the same end again."""

    async def stream() -> AsyncIterator[str]:
        yield "event: next\ndata: {}\n\n"
        context.ended = ended
        yield "event: complete\n\n"

    context = RequestContext(request=RequestFactory().get("/"), response=HttpResponse())
    monkeypatch.setattr(hosted_server, "is_going_away", lambda: True)
    received = [event async for event in without_farewell(stream(), context)]
    assert len(received) == 1 + ended
