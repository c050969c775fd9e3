"""`tasks pause` and `tasks resume`."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping
from typing import Any

from rail_async_tasks import queues
from rail_async_tasks.cli.change import operator
from rail_async_tasks.cli.exchange import announce_queues
from rail_async_tasks.cli.exits import OK, UNAVAILABLE, Stop
from rail_async_tasks.cli.filters import database
from rail_async_tasks.cli.screen import Screen
from rail_async_tasks.cli.words import one_line
from rail_async_tasks.conf import get_settings
from rail_async_tasks.errors import UnknownQueue
from rail_async_tasks.hosting.stored import storing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the queue."""
    parser.add_argument("queue", metavar="QUEUE", help="The queue's name.")


def run_pause(screen: Screen, options: Mapping[str, Any]) -> int:
    """Pauses the queue. Returns the exit code."""
    changed = _change(options["queue"], paused=True)
    name = one_line(options["queue"])
    screen.line(
        f"{name} is paused: within 2 s no process starts its tasks. Running ones go on."
        if changed
        else f"{name} is paused already."
    )
    return OK


def run_resume(screen: Screen, options: Mapping[str, Any]) -> int:
    """Ends the queue's pause. Returns the exit code."""
    if get_settings().backend == "sync":
        raise Stop(
            'task_settings["backend"] is "sync": who resumes a queue runs its tasks, and this'
            " command runs none. Call rail_async_tasks.queues.resume() in the project's own code.",
            UNAVAILABLE,
        )
    changed = _change(options["queue"], paused=False)
    name = one_line(options["queue"])
    screen.line(f"{name} is resumed." if changed else f"{name} is not paused.")
    return OK


def _change(queue: str, *, paused: bool) -> bool:
    """Pauses or resumes the queue in the operator's name; returns whether that changed it."""
    database()
    by = operator().acts_as
    try:
        with storing():
            changed = queues.pause(queue, by=by) if paused else queues.resume(queue, by=by)
    except UnknownQueue as error:
        raise Stop(one_line(error)) from error
    if changed:
        asyncio.run(announce_queues())
    return bool(changed)
