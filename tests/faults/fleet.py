"""Servers that share a database, and what is waited for and measured while things befall them."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, ClassVar

import pytest
from asgiref.sync import sync_to_async

from rail_async_tasks.models import TaskExecution, TaskRuntime
from tests.faults.bodies import notes
from tests.faults.bodies.notes import Note
from tests.support.client import Client
from tests.support.server import Server
from tests.support.server_kinds import KINDS
from tests.support.waiting import TIMEOUT, eventually

# The lease, in seconds, where one is to run out: of a process that is killed or frozen, and of
# those beside it. Long enough that a live process renews it on a slow machine too.
LEASE = 5.0
# Of all others.
LONG_LEASE = 600.0

_POSTGRES = pytest.mark.postgres


def on(database: str, *size: Any, long: bool = False) -> Any:
    """One form of a test: a database, and how much of it."""
    marks = [*([_POSTGRES] if database == "postgres" else []), *([pytest.mark.long] * long)]
    name = f"{database}-{'long' if long else 'short'}"
    return pytest.param(database, *size, marks=marks, id=name)


def forms(names: str, *params: Any) -> Any:
    """Parametrizes with `database` and these."""
    return pytest.mark.parametrize(("database", *names.split()), params, indirect=["database"])


class Fleet:
    """Starts servers. Each gets a lease of `LONG_LEASE` and a drain of 1 s, or the ones given."""

    latest: ClassVar[list[Server]] = []  # of the test that runs

    def __init__(
        self, env: dict[str, str], cookie: str, stack: AsyncExitStack, notes_file: str
    ) -> None:
        self.env = {
            **env,
            "DJANGO_SETTINGS_MODULE": "tests.faults.settings",
            "FAULTS_NOTES": notes_file,
        }
        self.cookie = cookie
        self.notes_file = notes_file
        Fleet.latest = []
        self._stack = stack

    async def serve(
        self, *, kind: str | None = None, env: dict[str, str] | None = None, **task_settings: Any
    ) -> Server:
        [server] = await self.serve_many(1, kind=kind, env=env, **task_settings)
        return server

    async def serve_many(
        self,
        count: int,
        *,
        kind: str | None = None,
        env: dict[str, str] | None = None,
        **task_settings: Any,
    ) -> list[Server]:
        """So many, started at once; returns when all of them answer. `env` is theirs alone."""
        options = {"lease_seconds": LONG_LEASE, "drain_seconds": 1, **task_settings}
        its = {**self.env, **(env or {})}
        of = None if kind is None else KINDS[kind]
        servers = [Server(its, kind=of, **options) for _ in range(count)]
        Fleet.latest += servers
        for server in servers:
            self._stack.callback(server.stop)
        for server in servers:
            await asyncio.to_thread(server.wait_until_it_answers)
        return servers

    def client(self, server: Server, *, anonymous: bool = False) -> Client:
        client = Client(server, "" if anonymous else self.cookie)
        self._stack.push_async_callback(client.http.aclose)
        return client

    async def freeze(self, server: Server) -> int:
        """SIGSTOP; whatever comes, it is thawed at the end of the test."""
        pid = server.pid
        os.kill(pid, signal.SIGSTOP)
        self._stack.callback(thaw, pid)
        return pid


def thaw(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


async def gone(server: Server) -> float:
    """Sends SIGTERM. Returns how long it took until the process was gone, in seconds."""
    pid = server.pid
    handle = os.pidfd_open(pid)
    began = time.monotonic()
    os.kill(pid, signal.SIGTERM)
    ended, _, _ = await asyncio.to_thread(select.select, [handle], [], [], TIMEOUT)
    taken = time.monotonic() - began
    os.close(handle)
    assert ended, "it did not end"
    return taken


# --- what is there --------------------------------------------------------------------------------


@sync_to_async
def rows(ids: Iterable[str] | None = None) -> list[TaskExecution]:
    found = TaskExecution.objects.order_by("id")
    return list(found if ids is None else found.filter(id__in=list(ids)))


@sync_to_async
def values(ids: Iterable[str]) -> list[dict[str, Any]]:
    """Every column of these rows."""
    return list(TaskExecution.objects.filter(id__in=list(ids)).order_by("id").values())


read_notes = sync_to_async(notes.read)


async def held(client: Client, calls: Sequence[str]) -> list[str]:
    """Starts these; returns the ids once all of them have begun, each in the client's own server.

    One that another process was quicker to claim is cancelled, and started anew.
    """
    place = f" {client.server.pid}"
    ids: dict[int, str] = {}
    while missing := [number for number in range(len(calls)) if number not in ids]:
        made = await asyncio.gather(*(client.start(calls[number]) for number in missing))
        await eventually(lambda: all_begun(made), every=0.05)  # noqa: B023 (awaited here)
        for number, task_id in zip(missing, made, strict=True):
            if (await holder_of(task_id)).endswith(place):
                ids[number] = task_id
            else:
                await client.post("mutation($id: ID!) { cancelTask(id: $id) { id } }", id=task_id)
    return [ids[number] for number in range(len(calls))]


async def all_begun(ids: Sequence[str]) -> bool:
    return all(row.attempts for row in await rows(ids))


@sync_to_async
def holder_of(task_id: str) -> str:
    """The place of the process that runs it, or nothing."""
    row = TaskExecution.objects.get(id=task_id)
    found = TaskRuntime.objects.filter(id=row.runtime_id).values_list("place", flat=True)
    return found.first() or ""


async def until_final(
    ids: Sequence[str] | None, seconds: float = TIMEOUT, every: float = 0.1
) -> list[TaskExecution]:
    """The rows (all there are, for None), once each of them has ended."""
    found: list[TaskExecution] = []

    async def ended() -> bool:
        found[:] = await rows(ids)
        return all(row.completed_at for row in found)

    def left() -> object:
        return Counter((it.status, it.attempts, it.crashes) for it in found if not it.completed_at)

    await eventually(ended, left, timeout=seconds, every=every)
    return found


async def until_noted(ids: Sequence[str], attempt: int) -> list[Note]:
    """The notes, once each of these tasks has begun that attempt."""

    async def begun() -> list[Note]:
        found = await read_notes()
        there = {note.task for note in found if note.attempt == attempt}
        return found if set(ids) <= there else []

    return list(await eventually(begun, every=0.05))


def assert_each_attempt_began_once(found: Iterable[Note]) -> None:
    counted = Counter((note.task, note.attempt) for note in found)
    assert [it for it, count in counted.items() if count > 1] == []


@sync_to_async
def lapse_of(server: Server) -> float:
    """When the last lease of a process that has ended is over, in seconds since 1970."""
    found = TaskRuntime.objects.filter(place__endswith=f" {server.pid}")
    return max(it.lapses_at.timestamp() for it in found)


async def until_judging(since: float, lease: float = LEASE) -> None:
    """A process declares none dead before it has held a lease for one whole lease itself."""
    await asyncio.sleep(max(0.0, since + lease * 1.4 + 0.3 - time.monotonic()))


# --- what is measured -----------------------------------------------------------------------------


def cpu_seconds(pid: int) -> float:
    """Returns the CPU seconds that a process has used so far."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))
