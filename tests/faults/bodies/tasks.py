"""The bodies that the fault tests run, one for each thing that may befall them."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import strawberry
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group
from django.utils import timezone

from rail_async_tasks import TaskCancelled, task, task_mutation
from tests.faults.bodies import notes

note = sync_to_async(notes.write)


async def opened(gate: str) -> None:
    """Returns once there is that file; at once for no name."""
    while gate and not Path(gate).exists():  # noqa: ASYNC110, ASYNC240 (another process makes it)
        await asyncio.sleep(0.05)


@task_mutation(name="faults.hold", max_retries=0)
async def hold(info: Any) -> int:
    """Note each attempt; end in the second only."""
    await note(info)
    attempt: int = info.context.task.attempt
    if attempt == 1:
        await asyncio.Event().wait()
    return attempt


@task_mutation(name="faults.churn", max_retries=0)
async def churn(info: Any, seconds: float, gate: str = "") -> int:
    """Note it, report progress, and end after so many seconds, or once there is that file."""
    await note(info)
    step = 0
    while gate and not Path(gate).exists():  # noqa: ASYNC240 (another process makes it)
        step += 1
        info.context.task.update_progress(step % 100)
        await asyncio.sleep(0.1)
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        info.context.task.update_progress(int(99 * (1 - left / seconds)))
        await asyncio.sleep(min(left, 0.05))
    return int(info.context.task.attempt)


@task_mutation(name="faults.wake", max_retries=3, retry_delay=0)
async def wake(info: Any, how: str, gate: str) -> int:
    """In the first attempt end once there is that file, in that way; later at once."""
    it = info.context.task
    await note(info)
    if it.attempt > 1:
        return int(it.attempt)
    if how == "report":
        for number in range(10_000):
            it.update_progress(number % 90 + 1, "from the first attempt")
            await asyncio.sleep(0.02)
    await opened(gate)
    if how == "fail":
        raise ValueError("from the first attempt")
    if how == "cancel":
        raise TaskCancelled
    return 1


@task_mutation(name="faults.leave", max_retries=0)
async def leave(gate: str) -> None:
    """End the process, by way of its loop, once there is that file."""
    await opened(gate)
    asyncio.get_running_loop().call_soon(sys.exit, 3)
    await asyncio.sleep(60)


@task_mutation(name="faults.work", max_retries=2)
async def work(info: Any, seconds: float) -> str:
    """Report progress for so long; not longer than a second when it is not the first attempt."""
    it = info.context.task
    if it.attempt > 1:
        seconds = min(seconds, 1.0)
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        it.update_progress(min(99, int(100 * (1 - left / seconds))))
        await asyncio.sleep(min(left, 0.1))
    return "done"


@task_mutation(name="faults.race", max_retries=0)
async def race(seconds: float) -> str:
    """Be over soon."""
    await asyncio.sleep(seconds)
    return "done"


@task_mutation(name="faults.race_on", max_retries=0)
async def race_on(seconds: float) -> str:
    """The same, and complete also when asked to end."""
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(seconds)
    return "done"


@task_mutation(name="faults.race_in_thread", max_retries=0)
def race_in_thread(info: Any, seconds: float) -> str:
    """The same in a thread, which looks now and then whether it is asked to end."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        info.context.task.raise_if_cancelled()
        time.sleep(0.002)
    return "done"


@task_mutation(name="faults.swallow", max_retries=0)
async def swallow(info: Any) -> None:
    """Go on after each cancel; note how often one came."""
    info.context.task.update_progress(5)
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            notes.append(info)


@task_mutation(name="faults.step", max_retries=0)
async def step(info: Any, n: int, seconds: float) -> int:
    """Note it in a file, for there may be no database, and report progress."""
    notes.append(info)
    for part in range(5):
        info.context.task.update_progress(part * 20)
        await asyncio.sleep(seconds / 5)
    return n


# --- by the clock ---------------------------------------------------------------------------------


@task_mutation(name="faults.tell_time", max_retries=0)
async def tell_time(info: Any) -> list[float]:
    """Say who runs it and what time it is there, in every way there is to read it."""
    now, here = timezone.now().timestamp(), datetime.now().timestamp()
    return [os.getpid(), time.time(), time.time_ns() / 1e9, now, here]


@task_mutation(name="faults.stumble", max_retries=1, retry_delay=2.0, retry_backoff=False)
async def stumble(info: Any) -> int:
    """Fail in the first attempt."""
    if info.context.task.attempt == 1:
        raise ConnectionError("the first attempt")
    return int(info.context.task.attempt)


@task(name="faults.later", max_retries=0)
async def later() -> int:
    """Say who runs it."""
    return os.getpid()


@task_mutation(name="faults.put_off", max_retries=0)
async def put_off(info: Any, delay: float, at: float) -> list[str]:
    """Start others: in so many seconds, and at that time (in seconds since 1970)."""
    user = info.context.user
    waiting = [
        await later.using(delay=delay, owner=user).aenqueue(),
        await later.using(run_after=datetime.fromtimestamp(at, UTC), owner=user).aenqueue(),
    ]
    return [str(os.getpid()), *(str(it.id) for it in waiting)]


# --- once ----------------------------------------------------------------------------------------


@task_mutation(name="faults.once", max_retries=0)
async def once(info: Any, seconds: float, gate: str = "") -> int:
    """Note it, and end after so many seconds, and once there is the file `gate`."""
    await note(info)
    await opened(gate)
    await asyncio.sleep(seconds)
    return int(info.context.task.attempt)


@task_mutation(name="faults.alone", unique=True, max_retries=0)
async def alone(info: Any, n: int, seconds: float) -> int:
    """The same; of those with the same arguments there is one."""
    await note(info)
    await asyncio.sleep(seconds)
    return n


@task_mutation(name="faults.start_keyed", max_retries=0)
async def start_keyed(info: Any, key: str) -> str:
    """Start the one with that key, or find it."""
    it = await alone.using(unique_key=key, owner=info.context.user).aenqueue(n=0, seconds=3600)
    return str(it.id)


# --- with the ORM, in every kind of thread; `how` it ends -----------------------------------------


@task_mutation(name="faults.orm", max_retries=0, timeout=1.0)
async def orm(info: Any, how: str) -> int:
    """Ask the database,."""
    count = await Group.objects.acount()
    if how == "raise":
        raise ValueError("on purpose")
    if how == "wait":
        await asyncio.sleep(3600)
    return count


@task_mutation(name="faults.orm_in_thread", max_retries=0, timeout=1.0)
def orm_in_thread(info: Any, how: str) -> int:
    """The same in a thread, which a timeout can only ask to end."""
    count: int = Group.objects.count()
    if how == "raise":
        raise ValueError("on purpose")
    while how == "wait":
        info.context.task.raise_if_cancelled()
        time.sleep(0.02)
    return count


@task_mutation(name="faults.count", max_retries=0)
async def count() -> int:
    """Ask the database, with no timeout: the machine may be busy."""
    return await Group.objects.acount()


@task_mutation(name="faults.count_in_thread", max_retries=0)
def count_in_thread() -> int:
    """The same in a thread."""
    return Group.objects.count()


@strawberry.type
class Mutations:
    """All of them."""

    hold = hold
    churn = churn
    wake = wake
    work = work
    leave = leave
    race = race
    race_on = race_on
    race_in_thread = race_in_thread
    swallow = swallow
    step = step
    orm = orm
    orm_in_thread = orm_in_thread
    count = count
    count_in_thread = count_in_thread
    tell_time = tell_time
    stumble = stumble
    put_off = put_off
    once = once
    alone = alone
    start_keyed = start_keyed
