"""What does it cost to deliver an event to many streams, and how long until the last has it?"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks.harness import Case, Question
from benchmarks.streams import clients, resident_bytes, served

# Seconds between two events, at least.
PAUSE = 0.25


def pause(streams: int) -> float:
    """Returns the seconds between two events: more than the delivery of one takes."""
    return max(PAUSE, streams * 0.000_25)


async def ours(
    count: int, events: int, kind: str, ws: str = "auto", deflate: bool = False
) -> dict[str, float]:
    """Events of one task without an owner to `count` clients without a credential."""
    from benchmarks.tasks import released, tell_the_time
    from rail_async_tasks.asgi import get_asgi_application

    port = await served(get_asgi_application, ws=ws)
    released.append(asyncio.Event())
    handle = await tell_the_time.aenqueue(count=events, pause=pause(count))
    return await _measure(
        port,
        {"kind": kind, "clients": count, "task": str(handle.id), "deflate": deflate},
        events,
        released[-1].set,
    )


async def bare(
    count: int, events: int, kind: str, ws: str = "auto", deflate: bool = False
) -> dict[str, float]:
    """The same bytes from an application that encodes each event once and does nothing else."""
    from benchmarks.bare_streams import make_application, publish

    port = await served(make_application, ws=ws)
    reports: list[asyncio.Task[None]] = []
    return await _measure(
        port,
        {"kind": kind, "clients": count, "task": "1", "deflate": deflate},
        events,
        lambda: reports.append(asyncio.create_task(publish(events, pause(count)))),
    )


async def _measure(
    port: int, spec: dict[str, Any], events: int, begin: Callable[[], Any]
) -> dict[str, float]:
    empty = resident_bytes()
    async with clients(port, {**spec, "events": events}) as them:
        await them.answer()  # all have joined
        full, cpu = resident_bytes(), time.process_time()
        begin()
        arrived = await them.answer()
        cpu = time.process_time() - cpu
    return {
        "CPU µs/delivery": cpu / arrived["deliveries"] * 1e6,
        "last ms": statistics.median(arrived["last ms"]),
        "KiB/stream": max(full - empty, 1) / spec["clients"] / 1024,
    }


def _case(label: str, streams: int, kind: str, *, quick: bool = False, **more: Any) -> Case:
    return Case(
        label=label,
        measure=f"{__name__}:ours",
        beside=f"{__name__}:bare",
        parameters={"count": streams, "events": 16, "kind": kind, **more},
        quick={"count": 20, "events": 2} if quick else None,
        database="sqlite",
        settings={
            "limits": {
                "sockets_per_address": None, "streams_per_user": None, "sockets_per_user": None
            }
        },
    )  # fmt: skip


QUESTION = Question(
    name="deliveries",
    title="One event of a task to all its streams",
    beside="an application without a framework that writes the same bytes, encoded once",
    cases=[
        _case("1,000 WebSockets", 1_000, "ws", quick=True),
        _case("1,000 WebSockets, compressed", 1_000, "ws", deflate=True),
        _case("1,000 WebSockets, --ws websockets", 1_000, "ws", ws="websockets"),
        _case("1,000 WebSockets, --ws wsproto", 1_000, "ws", ws="wsproto"),
        _case("1,000 streams of GraphQL (SSE)", 1_000, "sse"),
        _case("1,000 streams of REST (SSE)", 1_000, "rest"),
        _case("10,000 WebSockets", 10_000, "ws"),
    ],
    repeats=3,
)
