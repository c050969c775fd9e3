"""Each attack at full speed from fifty connections, and honest callers beside it.

Latencies are measured beside fifty connections of honest queries and beside each attack, in one
run, and reported as ratios: `FAULTS_REPORT=file make test-long ARGS="-k attacks -s"`. Asserted is
what does not depend on the machine: no lease is lost, memory stays, and the callers are served.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.utils import timezone

from devservers.process import ROOT
from rail_async_tasks.models import TaskExecution, TaskRuntime
from tests.faults.attackers import ATTACKS
from tests.support.client import Client
from tests.support.measures import report
from tests.support.places import logged_in
from tests.support.server import Server
from tests.support.waiting import TIMEOUT

# On SQLite each of fifty connections may have 2 MB of page cache, which are not the server's.
pytestmark = [
    pytest.mark.long,
    pytest.mark.postgres,
    pytest.mark.parametrize("database", ["postgres"], indirect=True),
]

SECONDS = 15.0
CALLERS = 4
MEBIBYTE = 1024  # in KiB, as /proc has it
MOST_GROWTH = 100 * MEBIBYTE
HONEST = "honest queries"
SMALL = "subscription($id: ID!) { taskProgress(taskId: $id) { status } }"


@contextmanager
def attacked(env: dict[str, str]) -> Iterator[Server]:
    """A server at the default limits. What an attack makes it log is no alarm here."""
    server = Server(env, drain_seconds=1, cancel_grace_seconds=1)
    try:
        server.wait_until_it_answers()
        yield server
    finally:
        server.terminate()
        server.stop()


def prepared() -> str:
    """The cookie of a user who has 100 results of 250 KiB."""
    cookie = logged_in("ada")
    now = timezone.now()
    owner = str(User.objects.get(username="ada").pk)
    for number in range(100):
        TaskExecution.objects.create(
            id=f"01890a5d-ac96-774b-bcce-{number:012x}", name="acceptance.where", queue="default",
            status="completed", owner_id=owner, result="x" * 250 * 1024, created_at=now,
            updated_at=now, completed_at=now,
        )  # fmt: skip
    return cookie


class Caller:
    """Honest users: a probe, a start, and the first event of a stream, again and again."""

    def __init__(self, server: Server, cookie: str) -> None:
        self.client = Client(server, cookie)
        self.seconds: dict[str, list[float]] = {"health": [], "mutation": [], "stream": []}

    async def turns(self, sent: asyncio.Future[Any]) -> None:
        while not sent.done():
            async with asyncio.timeout(TIMEOUT):
                await self.turn()

    async def turn(self) -> None:
        root = self.client.server.url.removesuffix("graphql/")
        with self.timed("health"):
            assert (await self.client.http.get(f"{root}tasks/health/live")).status_code == 200
        with self.timed("mutation"):
            task_id = await self.client.start("where")
        with self.timed("stream"):
            async with self.client.sse(SMALL, {"id": task_id}) as lines:
                await anext(lines)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name].append(time.perf_counter() - start)

    def p99(self) -> dict[str, float]:
        """In milliseconds."""
        return {
            name: 1000 * statistics.quantiles(found, n=100, method="inclusive")[98]
            for name, found in self.seconds.items()
        }


def kibibytes(pid: int, name: str) -> int:
    """`VmRSS`, or `VmHWM`: the most since the last reset."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(it.split()[1]) for it in lines if it.startswith(name))


def forget_peak(pid: int) -> None:
    """Has the kernel count `VmHWM` anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


async def beside(kind: str, server: Server, cookie: str) -> dict[str, Any]:
    """What honest callers are served like while fifty connections send requests of one kind."""
    before = kibibytes(server.pid, "VmRSS")
    forget_peak(server.pid)
    caller = Caller(server, cookie)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.faults.attackers", kind, str(server.port), cookie,
        str(SECONDS), cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    sent = asyncio.ensure_future(process.communicate())
    await asyncio.gather(*(caller.turns(sent) for _ in range(CALLERS)))
    await caller.client.http.aclose()
    output, _ = await sent
    return {
        "p99 ms": caller.p99(), "turns": len(caller.seconds["stream"]),
        "MiB more": (kibibytes(server.pid, "VmHWM") - before) / MEBIBYTE, **json.loads(output),
    }  # fmt: skip


async def test_attacks_from_fifty_connections(database: Any) -> None:
    """No lease is lost, memory grows by less than 100 MiB, and honest callers are served."""
    cookie = await sync_to_async(prepared)()
    with attacked(database.env) as server:
        # Twice: the first warms everything up.
        await beside(HONEST, server, cookie)
        runtimes = await sync_to_async(alive)()
        honest = await beside(HONEST, server, cookie)
        shown(HONEST, honest, honest)
        found = {}
        for kind in (*ATTACKS, HONEST):
            found[kind] = await beside(kind, server, cookie)
            shown(kind, found[kind], honest)
        log = server.said()
        after = await sync_to_async(alive)()
    assert after == runtimes
    assert "The lease of" not in log
    assert {kind: it["MiB more"] for kind, it in found.items() if it["MiB more"] >= 100} == {}
    assert all(it["turns"] >= 3 for it in found.values())


def shown(kind: str, it: dict[str, Any], honest: dict[str, Any]) -> None:
    """Reports one kind, as ratios to the first honest one."""
    ratios = {name: it["p99 ms"][name] / honest["p99 ms"][name] for name in it["p99 ms"]}
    load = os.getloadavg()[0]
    report("attacks", kind=kind, ratios=ratios, load=load, **it)
    figures = [f"{name} x{ratio:.2f}" for name, ratio in ratios.items()]
    figures += [f"{name} p99 {ms:.0f} ms" for name, ms in it["p99 ms"].items()]
    figures += [f"{it['MiB more']:+.0f} MiB", f"{it['answers']} answers", f"{it['turns']} turns"]
    sys.stdout.write(f"{kind}: {', '.join(figures)}, load {load:.0f}\n")


def alive() -> list[Any]:
    return sorted(TaskRuntime.objects.values_list("id", flat=True))
