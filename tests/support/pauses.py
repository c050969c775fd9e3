"""A queue that is paused while processes work on it: by a process that is killed right after."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from asgiref.sync import sync_to_async
from django.utils import timezone

from devservers.process import ROOT
from rail_async_tasks.hosting.making import make_ledger
from rail_async_tasks.ids import new_id
from rail_async_tasks.models import QueueState, TaskExecution
from tests.support.waiting import eventually

QUEUE = "low"
# The promise: nothing of the queue starts later than this after the pause.
HEEDED_IN = timedelta(seconds=2)
# Processes that heeded no pause would start something in this time.
WATCHED = timedelta(seconds=4)

_PAUSER = f"""
import os, signal, sys
import django
django.setup()
from rail_async_tasks import queues
print("ready", flush=True)
sys.stdin.readline()
assert queues.pause({QUEUE!r}, by="ann")
os.kill(os.getpid(), signal.SIGKILL)
"""


@sync_to_async
def leave(name: str, count: int, queue: str = QUEUE, **arguments: Any) -> list[str]:
    """Creates so many rows that are due."""
    now = timezone.now()
    made = TaskExecution.objects.bulk_create(
        TaskExecution(
            id=new_id(), name=name, status="pending", queue=queue, arguments=arguments,
            created_at=now, updated_at=now,
        )
        for _ in range(count)
    )  # fmt: skip
    return [str(row.id) for row in made]


@sync_to_async
def starts(ids: Sequence[str]) -> list[datetime]:
    """When those of them that have begun did, by the database's clock."""
    found = TaskExecution.objects.filter(id__in=ids, started_at__isnull=False)
    return sorted(at for at in found.values_list("started_at", flat=True) if at is not None)


async def assert_paused_under_load(
    env: Mapping[str, str],
    task_settings: Mapping[str, Any],
    appear: Callable[[], Awaitable[list[str]]],
    seconds: float,
) -> None:
    """Pauses while the tasks run, resumes, and waits so long until all of them have completed.

    All times are those of rows. `env` and `task_settings` are the processes'; `appear` makes tasks
    wait, and returns their ids.
    """
    settings = {"ACCEPTANCE_TASK_SETTINGS": json.dumps(task_settings), "PYTHONPATH": str(ROOT)}
    pauser = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _PAUSER, env={**os.environ, **env, **settings},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert pauser.stdin is not None
    assert pauser.stdout is not None
    assert await asyncio.wait_for(pauser.stdout.readline(), 120) == b"ready\n"
    ids = await appear()

    async def some_have_begun() -> bool:
        return len(await starts(ids)) >= 10

    await eventually(some_have_begun, timeout=60, every=0.05)
    pauser.stdin.write(b"\n")
    assert await asyncio.wait_for(pauser.wait(), 60) == -signal.SIGKILL
    state = await QueueState.objects.aget(name=QUEUE)
    paused_at = state.paused_at
    assert paused_at is not None
    assert state.paused_by == "ann"
    ledger = await sync_to_async(make_ledger)()
    await eventually(lambda: timezone.now() > paused_at + WATCHED, timeout=20, every=0.1)
    before = await starts(ids)
    late = [at - paused_at for at in before if at > paused_at + HEEDED_IN]
    assert late == []
    waiting = len(ids) - len(before)
    assert waiting > 0, "all of them had begun before the pause: it shows nothing"
    assert await sync_to_async(ledger.resume_queue)(QUEUE, None)

    async def all_completed() -> bool:
        rows = TaskExecution.objects.filter(id__in=ids)
        return await rows.filter(status="completed", attempts=1).acount() == len(ids)

    await eventually(all_completed, timeout=seconds, every=0.2)
    between = [at for at in await starts(ids) if paused_at + HEEDED_IN < at <= paused_at + WATCHED]
    assert between == []
