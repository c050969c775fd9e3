"""Failure callbacks that say in the database when they begin and end, and in which process.

They end once there is a group of the name "go"; the one of a server that is killed never does.
"""

from __future__ import annotations

import asyncio
import os
import time

from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group


def in_a_thread(taskId: str, task_name: str, error: str, traceback: str) -> None:  # noqa: N803
    _note("begun", taskId)
    while not Group.objects.filter(name="go").exists():
        time.sleep(0.05)
    _note("made", taskId)


async def on_the_loop(taskId: str, task_name: str, error: str, traceback: str) -> None:  # noqa: N803
    await sync_to_async(_note)("begun", taskId)
    while not await Group.objects.filter(name="go").aexists():  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    await sync_to_async(_note)("made", taskId)


def _note(what: str, task_id: str) -> None:
    Group.objects.create(name=f"{what} {task_id} {os.getpid()}")
