"""How big things are, for the arithmetic of docs/scaling.md: `python -m benchmarks.sizes`.

Bytes of a row, of what Redis holds, of a WebSocket; connections; CPU of an event to a WebSocket.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from benchmarks.databases import Databases
from benchmarks.environment import ROOT, child_environment
from benchmarks.processes import at_work, cpu_seconds, task_workers

ROWS = 5_000
TOPICS = 10_000
SOCKETS = 500
WATCHERS, UPDATES, PAUSE = 100, 100, 0.05


def main() -> None:
    with Databases() as databases:
        for measured, task_settings in MEASURED.items():
            with databases.fresh("postgres") as database, databases.redis(True) as redis:
                settings = {"max_pending": None, **task_settings}
                subprocess.run(
                    [sys.executable, "-m", "benchmarks.sizes", measured],
                    cwd=ROOT,
                    env=child_environment(
                        database, redis, {"BENCHMARK_TASK_SETTINGS": json.dumps(settings)}
                    ),
                    check=True,
                )


async def rows() -> None:
    """Of finished tasks without arguments and results, with the indexes."""
    from django.db import connection

    from benchmarks.tasks import noop, settled
    from rail_async_tasks.hosting import process as host
    from rail_async_tasks.models import TaskExecution

    table = TaskExecution._meta.db_table
    for _ in range(ROWS):
        await noop.aenqueue()
    await settled()
    await host.astop()

    def size() -> int:
        with connection.cursor() as cursor:
            cursor.execute(f"VACUUM FULL {table}")
            cursor.execute("SELECT pg_total_relation_size(%s)", [table])
            return int(cursor.fetchone()[0])

    show("bytes of a finished row, with its indexes", await asyncio.to_thread(size) / ROWS)


async def jobs() -> None:
    """The size of a job that waits in Redis, without a worker."""
    from benchmarks.tasks import noop
    from rail_async_tasks.hosting import process as host

    for _ in range(ROWS):
        await noop.aenqueue()
    await asyncio.sleep(2)
    held = int(_redis("ZCARD", "arq:queue:default"))
    show("ids that arq holds, of 5,000 that wait", held)
    used = sum(int(_redis("MEMORY", "USAGE", key)) for key in _redis("KEYS", "*"))
    show("bytes of an id in Redis", used / held)
    await host.astop()


async def topics() -> None:
    """Watched tasks, each a channel of Redis."""
    from uuid import uuid4

    from rail_async_tasks.hosting import process as host
    from rail_async_tasks.snapshot import task_topic

    await host.aruntime()
    await asyncio.sleep(0.5)
    before, resident = _memory(), _resident(os.getpid())
    async with AsyncExitStack() as stack:
        for _ in range(TOPICS):
            await stack.enter_async_context(host.bus().subscribe(task_topic(uuid4())))
        await asyncio.sleep(2)
        show("bytes of a watched task in Redis", (_memory() - before) / TOPICS)
        show("bytes of a watcher in its process", (_resident(os.getpid()) - resident) / TOPICS)
        show("connections of a web process to Redis, 10,000 watchers", len(_clients()))
    await host.astop()


async def connections() -> None:
    """Of a web process and a worker."""
    from benchmarks.tasks import noop
    from rail_async_tasks.hosting import process as host

    with task_workers(1):
        await host.aruntime()
        await at_work(1)
        for _ in range(500):
            await noop.aenqueue()
        await asyncio.sleep(2)
        show("connections of a web process and an arq worker to Redis", len(_clients()))
        show("connections of both to PostgreSQL", await asyncio.to_thread(_to_postgres))
    await host.astop()


async def sockets() -> None:
    """A WebSocket with a subscription in uvicorn: its memory, and what an event to it costs."""
    from tests.support.client import Client, subscribe
    from tests.support.server import Server

    follow = "subscription($id: ID!) { taskProgress(taskId: $id) { id progress status } }"
    environment = {name: os.environ[name] for name in ("TEST_DATABASE", "TEST_DATABASE_URL")}
    server = Server(environment, loop="uvloop", progress_interval_seconds=PAUSE / 2)
    try:
        server.wait_until_it_answers()
        client = Client(server)
        idle = await client.start("linger")
        await client.until(idle, "running")
        before = _resident(server.pid)
        async with AsyncExitStack() as stack:
            for _ in range(SOCKETS):
                await subscribe(
                    await stack.enter_async_context(client.socket()), follow, {"id": idle}
                )
            await asyncio.sleep(1)
            show(
                "bytes of a WebSocket with a subscription",
                (_resident(server.pid) - before) / SOCKETS,
            )
        (one, _), (many, start) = [
            await _watched(client, server.pid, follow, count) for count in (1, WATCHERS)
        ]
        show("CPU µs of an event to a WebSocket", (many - one) / ((WATCHERS - 1) * UPDATES) * 1e6)
        show("CPU µs of a WebSocket's first subscription", start / WATCHERS * 1e6)
        await client.http.aclose()
    finally:
        server.stop()


async def _watched(client: Any, pid: int, follow: str, watchers: int) -> tuple[float, float]:
    """Returns the server's CPU seconds while so many watch a task that reports, and before."""
    from tests.support.client import subscribe

    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(client.socket()) for _ in range(watchers)]
        task_id = await client.start(f"climb(steps: {UPDATES}, pause: {PAUSE})")
        begun = cpu_seconds([pid])
        for ws in streams:
            await subscribe(ws, follow, {"id": task_id})
            await ws.recv()
        before = cpu_seconds([pid])

        async def read(ws: Any) -> None:
            async for frame in ws:
                if json.loads(frame)["type"] == "complete":
                    return

        await asyncio.gather(*map(read, streams))
        return cpu_seconds([pid]) - before, before - begun


def show(what: str, number: float) -> None:
    print(f"{what:<60} {number:>12,.0f}", flush=True)


def _redis(*command: str) -> Any:
    from redis import Redis

    with Redis.from_url(os.environ["BENCHMARK_REDIS"], decode_responses=True) as client:
        return client.execute_command(*command)


def _memory() -> int:
    return int(_redis("INFO", "memory")["used_memory"])


def _clients() -> list[str]:
    return [it for it in _redis("CLIENT", "LIST").splitlines() if "cmd=client|list" not in it]


def _to_postgres() -> int:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid()"
        )
        return int(cursor.fetchone()[0])


def _resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


# What is measured in a process of its own: the task settings there.
MEASURED: dict[str, dict[str, Any]] = {
    "rows": {},
    "jobs": {"backend": "arq"},
    "topics": {},
    "connections": {"backend": "arq"},
    "sockets": {},
}


def child(measured: str) -> None:
    import django

    django.setup()
    function: Callable[[], Coroutine[Any, Any, None]] = globals()[measured]
    asyncio.run(function())


if __name__ == "__main__":
    if len(sys.argv) > 1:
        child(sys.argv[1])
    else:
        main()
