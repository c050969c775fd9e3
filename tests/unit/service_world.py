"""Tasks that wait for their test, and ways to start and follow them: for tests of the service."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from rail_async_tasks import service
from rail_async_tasks.access import SYSTEM, Viewer
from rail_async_tasks.declaration.definition import define
from rail_async_tasks.registry import registry
from rail_async_tasks.service import EnqueueOptions
from rail_async_tasks.snapshot import TaskSnapshot
from tests.support.waiting import TIMEOUT

ADA, GRACE, ANONYMOUS = Viewer("1"), Viewer("2"), Viewer()
AUDITOR = Viewer("3", sees_all=True)


@dataclass
class Gate:
    """Where the bodies wait until the test lets them go on."""

    started: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    info: Any = None

    def close(self) -> None:
        """For the next test, in its loop."""
        self.__init__()  # type: ignore[misc]


gate = Gate()


async def _echo(n: int) -> int:
    return n


async def _wait(info: Any, n: int = 0) -> int:
    gate.info = info
    gate.started.set()
    await gate.go.wait()
    return n


ECHO = registry.register(define(_echo, name="service.echo", queue="service"))
WAIT = registry.register(define(_wait, name="service.wait", priority=4, max_retries=1))
ONLY = registry.register(define(_wait, name="service.only", unique=True))


async def start(definition: Any = WAIT, **options: Any) -> TaskSnapshot:
    arguments = {"n": 7} if definition is ECHO else {}
    return await service.aenqueue(definition, arguments, EnqueueOptions(**options))


async def started() -> None:
    await asyncio.wait_for(gate.started.wait(), TIMEOUT)


async def finished(task: TaskSnapshot) -> TaskSnapshot:
    """The task at its end."""
    async with asyncio.timeout(TIMEOUT), aclosing(service.watch(SYSTEM, task.id)) as snapshots:
        return [snapshot async for snapshot in snapshots][-1]
