"""The tasks that the acceptance tests start, one for each thing that a task may do."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import strawberry
from django.contrib.auth.models import Group

from rail_async_tasks import task, task_mutation
from tests.support.waiting import eventually


@task_mutation(name="acceptance.climb")
async def climb(
    info: Any, steps: int, pause: float, label: str = "", seen: str = ""
) -> dict[str, Any]:
    """Report progress step by step. With the folder `seen`, each step waits for a file there."""
    for step in range(1, steps + 1):
        info.context.task.update_progress(100 * step // (steps + 1), f"step {step}")
        if seen:
            await eventually((Path(seen) / f"step {step}").exists, f"step {step} was not seen")
        await asyncio.sleep(pause)
    return {"steps": steps, "label": label}


@task_mutation(name="acceptance.linger")
async def linger(info: Any) -> None:
    """Run until it is cancelled."""
    info.context.task.update_progress(1, "lingering")
    await asyncio.Event().wait()


@task_mutation(name="acceptance.linger_alone", queue="alone")
async def linger_alone(info: Any) -> None:
    """The same; where its queue takes one at a time, the next one waits."""
    info.context.task.update_progress(1, "lingering")
    await asyncio.Event().wait()


@task_mutation(name="acceptance.flaky", max_retries=3, retry_delay=0.05)
async def flaky(info: Any) -> int:
    """Fail twice, then succeed."""
    attempt: int = info.context.task.attempt
    if attempt < 3:
        raise ConnectionError(f"attempt {attempt} failed")
    return attempt


@task_mutation(name="acceptance.fall", max_retries=0)
async def fall() -> None:
    """Always fail."""
    raise ValueError("the data makes no sense")


@task_mutation(name="acceptance.group")
def make_groups(info: Any, prefix: str, count: int) -> dict[str, Any]:
    """Write and read with the ORM, in a thread."""
    for number in info.context.task.track(range(count)):
        Group.objects.create(name=f"{prefix}{number}")
    found = Group.objects.filter(name__startswith=prefix).count()
    return {"found": found, "user": info.context.user.get_username()}


@task_mutation(name="acceptance.survive")
async def survive(info: Any) -> int:
    """End in the second attempt only."""
    info.context.task.update_progress(5, "waiting for the second attempt")
    if info.context.task.attempt == 1:
        await asyncio.Event().wait()
    attempt: int = info.context.task.attempt
    return attempt


@task_mutation(name="acceptance.survive_in_thread")
def survive_in_thread(info: Any) -> int:
    """The same in a thread, which can only be asked to end."""
    info.context.task.update_progress(5, "waiting for the second attempt")
    while info.context.task.attempt == 1:
        info.context.task.raise_if_cancelled()
        time.sleep(0.02)
    attempt: int = info.context.task.attempt
    return attempt


@task_mutation(name="acceptance.swallow")
async def swallow(info: Any) -> int:
    """Not end when asked to, in the first attempt."""
    info.context.task.update_progress(5)
    while info.context.task.attempt == 1:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
    return 2


@task_mutation(name="acceptance.sit")
def sit(info: Any) -> int:
    """The same in a thread."""
    info.context.task.update_progress(5)
    while info.context.task.attempt == 1:
        time.sleep(0.1)
    return 2


@task_mutation(name="acceptance.where")
async def where() -> str:
    """Say which library's loop it runs in."""
    return type(asyncio.get_running_loop()).__module__.partition(".")[0]


@task(name="acceptance.nap")
def nap(seconds: float) -> None:
    """Keep a thread busy."""
    time.sleep(seconds)


@task(name="acceptance.late", max_retries=0)
async def late(seconds: float) -> int:
    """Use every kind of thread, after a while."""
    await asyncio.sleep(seconds)
    counted = await asyncio.to_thread(Group.objects.count)
    return counted - await Group.objects.acount()


@task_mutation(name="acceptance.die")
async def die(go: str) -> None:
    """Take the process down once there is that file."""
    await eventually(Path(go).exists)
    os.kill(os.getpid(), signal.SIGKILL)


@task_mutation(name="acceptance.flood")
def flood(info: Any, calls: int, until: str) -> int:
    """Report progress without a pause, in a thread: so many times at least, and until that file."""
    count = 0
    while count < calls or not os.path.exists(until):  # noqa: PTH110 (it costs as little as can be)
        info.context.task.update_progress(count % 100)
        count += 1
    return count


@strawberry.type
class Mutations:
    """All of them."""

    climb = climb
    where = where
    linger = linger
    linger_alone = linger_alone
    flaky = flaky
    fall = fall
    make_groups = make_groups
    survive = survive
    survive_in_thread = survive_in_thread
    flood = flood
    die = die
    swallow = swallow
    sit = sit
