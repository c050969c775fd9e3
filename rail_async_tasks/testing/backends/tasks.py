"""The tasks of the suite: bodies of every kind, with arguments of every kind."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any

import strawberry

from rail_async_tasks import Fail, Retry, task

# A queue that the suite's settings may give a `concurrency`.
NARROW_QUEUE = "contract_narrow"


@strawberry.enum
class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@strawberry.input
class Point:
    x: float
    y: float = 0.0
    tags: list[str] = strawberry.field(default_factory=list)


@task(name="contract.echo", max_retries=0)
async def echo(  # noqa: PLR0913, PLR0917 - one of each type
    number: int, ratio: float, text: str, flag: bool, at: datetime, day: date, price: Decimal,
    key: uuid.UUID, colour: Colour, point: Point, points: list[Point], nothing: str | None = None,
) -> dict[str, str]:  # fmt: skip
    """Return each argument as text, with its type."""
    return {name: f"{type(it).__name__} {it!r}" for name, it in locals().items()}


@task(name="contract.add", max_retries=0)
async def add(a: int, b: int) -> int:
    return a + b


@task(name="contract.in_a_thread", max_retries=0)
def in_a_thread(info: Any) -> dict[str, Any]:
    """Use the ORM, as a `def` may."""
    from rail_async_tasks.models import TaskExecution

    row = TaskExecution.objects.get(id=info.context.task.id)
    return {"name": row.name, "status": row.status}


@task(name="contract.fall", max_retries=0)
async def fall() -> None:
    raise ValueError("as it should")


@task(name="contract.give_up", max_retries=3)
async def give_up() -> None:
    raise Fail("no use")


@task(name="contract.flaky", max_retries=2)
async def flaky(info: Any) -> int:
    """Succeed in the third attempt."""
    attempt: int = info.context.task.attempt
    if attempt < 3:
        raise Retry(delay=0.1)
    return attempt


@task(name="contract.slow", max_retries=0, timeout=0.5)
async def slow() -> None:
    await asyncio.sleep(3600)


@task(name="contract.climb", max_retries=0)
async def climb(info: Any, steps: int, pause: float) -> int:
    """Report progress `steps` times, `pause` seconds apart."""
    for step in range(steps):
        info.context.task.update_progress(100 * step // steps, f"step {step}")
        await asyncio.sleep(pause)
    return steps


@task(name="contract.linger", max_retries=0)
async def linger(info: Any) -> int:
    """Not end in the first attempt; return its process in the next."""
    if info.context.task.attempt == 1:
        await asyncio.sleep(3600)
    return os.getpid()


@task(name="contract.linger_in_a_thread", max_retries=0)
def linger_in_a_thread(info: Any) -> int:
    """The same, by a body that raises once it is cancelled."""
    while info.context.task.attempt == 1:
        info.context.task.raise_if_cancelled()
        time.sleep(0.02)
    return os.getpid()


@task(name="contract.where", max_retries=0, queue="low")
async def where() -> int:
    """Return the process that it runs in."""
    return os.getpid()


@task(name="contract.large", max_retries=0)
async def large(size: int) -> str:
    return "x" * size


@task(name="contract.hold", max_retries=0)
async def hold(seconds: float) -> None:
    """Keep a slot."""
    await asyncio.sleep(seconds)


@task(name="contract.narrow", max_retries=0, queue=NARROW_QUEUE)
async def narrow(seconds: float) -> tuple[int, str, str]:
    """Return the process that it ran in, its start and its end."""
    began = datetime.now(UTC)
    await asyncio.sleep(seconds)
    return os.getpid(), began.isoformat(), datetime.now(UTC).isoformat()
