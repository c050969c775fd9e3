"""How long do requests take while tasks burn the CPU beside them, as `async def`, `def`, by arq?"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from benchmarks.endpoint import CONSTANT, first_bytes
from benchmarks.harness import Case, Metrics, Question
from benchmarks.http_load import get, load, post
from benchmarks.processes import at_work, task_workers
from benchmarks.web_server import serving

# A few clients who look at a page now and then: what they wait for is not their own doing.
CONNECTIONS = 4
PAUSE = 0.04  # seconds


async def beside_tasks(count: int, name: str, rate: int, milliseconds: int) -> Metrics:
    """The web process starts the tasks and runs them."""
    return await _measured(count, f"/burn/{quote(name)}/{rate}/{milliseconds}/")


async def beside_worker(count: int, name: str, rate: int, milliseconds: int) -> Metrics:
    """The web process starts the tasks, and a worker process runs them."""
    with task_workers(1):
        await at_work(0)
        return await _measured(count, f"/burn/{quote(name)}/{rate}/{milliseconds}/")


async def at_rest(count: int, name: str, rate: int, milliseconds: int) -> Metrics:
    """No tasks."""
    return await _measured(count, None)


async def _measured(count: int, burn: str | None) -> Metrics:
    body = json.dumps({"query": CONSTANT, "variables": {"number": 1}}).encode()
    request, good = post("/ours/", body, {}), b'"status":"pending"'
    with serving() as (_, port):
        await load(port, request, good, count=32, connections=CONNECTIONS)
        if burn is not None:
            await load(port, get(burn), b"ok", count=1, connections=1)
        await load(port, request, good, count=count // 5, connections=CONNECTIONS, pause=PAUSE)
        found = await load(port, request, good, count=count, connections=CONNECTIONS, pause=PAUSE)
    return first_bytes(found)


def _case(name: str, rate: int, *, arq: bool = False, quick: bool = False) -> Case:
    where = "by an arq worker" if arq else f"as `{name}`"
    settings: dict[str, Any] = {"backend": "arq"} if arq else {}
    return Case(
        label=f"{rate} tasks/s of 10 ms, {where}",
        measure=f"{__name__}:{'beside_worker' if arq else 'beside_tasks'}",
        beside=f"{__name__}:at_rest",
        parameters={"count": 500, "name": name, "rate": rate, "milliseconds": 10},
        quick={"count": 20, "rate": 10} if quick else None,
        database="sqlite",
        redis=arq,
        settings=settings,
    )


QUESTION = Question(
    name="neighbours",
    title="Requests beside tasks that burn the CPU",
    beside="the same requests to the same server without tasks",
    cases=[
        _case("async def", 50),
        _case("async def", 100),
        _case("def", 50),
        _case("def", 100, quick=True),
        _case("async def", 100, arq=True),
    ],
    repeats=3,
)
