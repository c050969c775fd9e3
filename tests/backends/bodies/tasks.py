"""Tasks of the tests of backends: every kind of body and of argument."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

import strawberry
from django.contrib.auth.models import Group
from opentelemetry import trace

from rail_async_tasks import task_mutation
from tests.support.waiting import eventually


@strawberry.enum
class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@strawberry.input
class Point:
    x: float
    y: float = 0.0
    tags: list[str] = strawberry.field(default_factory=list)


@task_mutation(name="backends.echo", max_retries=0)
async def echo(
    info: Any, number: int, ratio: float, text: str, flag: bool, at: datetime, day: date,
    price: Decimal, key: uuid.UUID, colour: Colour, point: Point, points: list[Point],
    nothing: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Return the arguments, each with its type."""
    values = {name: it for name, it in locals().items() if name != "info"}
    return {name: f"{type(it).__name__}: {it!r}" for name, it in values.items()}


@task_mutation(name="backends.add", max_retries=0)
async def add(a: int, b: int) -> int:
    await asyncio.sleep(0)
    return a + b


@task_mutation(name="backends.groups", max_retries=0)
def groups(info: Any, name: str) -> dict[str, Any]:
    """Use the ORM in a thread; return the user too."""
    Group.objects.create(name=name)
    user = info.context.user
    return {"found": Group.objects.filter(name=name).count(), "user": user.get_username()}


@task_mutation(name="backends.climb", max_retries=0)
async def climb(info: Any, steps: int, pause: float, seen: str = "") -> int:
    """Report each step. With the folder `seen`, each waits for a file of its name there."""
    for step in range(steps):
        info.context.task.update_progress(100 * step // steps, f"step {step}")
        if seen:
            await eventually((Path(seen) / f"step {step}").exists, f"step {step} was unseen")
        await asyncio.sleep(pause)
    return steps


@task_mutation(name="backends.roam", max_retries=0)
async def roam(info: Any, steps: int, seen: str) -> int:
    """Report each step, and wait for its file in the folder `seen`; return the process id."""
    for step in range(1, steps + 1):
        info.context.task.update_progress(step)
        file = Path(seen) / f"{info.context.task.id} {step}"
        await eventually(file.exists, f"step {step} was unseen")
    return os.getpid()


@task_mutation(name="backends.linger", max_retries=0)
async def linger(info: Any) -> int:
    """Run for ever in the first attempt; return the process id in the next."""
    if info.context.task.attempt > 1:
        return os.getpid()
    await asyncio.sleep(3600)
    raise AssertionError


@task_mutation(name="backends.linger_in_thread", max_retries=0)
def linger_in_thread(info: Any) -> int:
    """The same in a thread, which is asked now and then."""
    while info.context.task.attempt == 1:
        info.context.task.raise_if_cancelled()
        time.sleep(0.02)
    return os.getpid()


@task_mutation(name="backends.where", max_retries=0, queue="low")
async def where() -> int:
    """Return the id of the process that runs it."""
    return os.getpid()


@task_mutation(name="backends.wait", max_retries=0)
async def wait(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


@task_mutation(name="backends.traced", max_retries=1, retry_delay=0)
async def traced(info: Any) -> int:
    """Return the id of the process that runs it, at the second attempt."""
    with trace.get_tracer("of the project").start_as_current_span("in the body"):
        if info.context.task.attempt == 1:
            raise ValueError
        return os.getpid()


@strawberry.type
class Mutations:
    """All of them."""

    echo = echo
    add = add
    groups = groups
    climb = climb
    roam = roam
    linger = linger
    linger_in_thread = linger_in_thread
    where = where
    wait = wait
    traced = traced
