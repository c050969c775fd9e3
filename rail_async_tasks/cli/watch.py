"""`tasks watch`: one task until it ends, over the bus where there is one, else by polling."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, Final
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import DatabaseError, connections

from rail_async_tasks.bus.mailbox import Mailbox
from rail_async_tasks.cli.exchange import crosses_processes, exchanging
from rail_async_tasks.cli.exits import CANCELLED, INTERRUPTED, OK, UNAVAILABLE, WRONG, Stop
from rail_async_tasks.cli.ids import find_id
from rail_async_tasks.cli.screen import Screen
from rail_async_tasks.cli.words import cut, duration, one_line
from rail_async_tasks.hosting import process
from rail_async_tasks.snapshot import TaskSnapshot, task_topic
from rail_async_tasks.states import Status
from rail_async_tasks.text import sentence

# Between two reads of the row, in seconds: with a bus that is connected, and without one.
POLL_SECONDS: Final = 0.5
POLL_WITH_BUS_SECONDS: Final = 2.0
# How long the database may be away before the command ends.
DATABASE_TIMEOUT: Final = 60.0
# Characters of a result in the last line.
RESULT_WIDTH: Final = 300

_CODES: Final = {Status.COMPLETED: OK, Status.FAILED: WRONG, Status.CANCELLED: CANCELLED}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the id."""
    parser.add_argument("id", metavar="ID", help="The task's id, or the beginning of it.")


def run(screen: Screen, options: Mapping[str, Any]) -> int:
    """Shows the task until it ends. Returns the exit code of its state."""
    task_id = find_id(options["id"])
    try:
        last = asyncio.run(_show(screen, task_id))
    except KeyboardInterrupt:
        screen.line(f"No longer watching. The task goes on: tasks watch {task_id}")
        return INTERRUPTED
    screen.line(_end_of(last))
    return _CODES[Status(last.status)]


async def _show(screen: Screen, task_id: UUID) -> TaskSnapshot:
    bar = screen.bar()
    try:
        async with aclosing(changes(task_id)) as snapshots:
            async for snapshot in snapshots:
                bar.show(snapshot)
                last = snapshot
        return last
    finally:
        bar.close()
        await sync_to_async(connections.close_all)()


async def changes(task_id: UUID) -> AsyncGenerator[TaskSnapshot, None]:
    """Yields the task as it stands, then its changes, and ends after the final one.

    Raises:
        Stop: the task's row is gone, or the database has not answered for a minute.
    """
    async with exchanging() as bus, bus.subscribe(task_topic(task_id)) as mailbox:
        snapshot = await _read(task_id)
        yield snapshot
        while not snapshot.is_final:
            with_bus = crosses_processes() and bus.connected
            seconds = POLL_WITH_BUS_SECONDS if with_bus else POLL_SECONDS
            found = await _published(mailbox, seconds) or await _read(task_id)
            if found.version > snapshot.version or (
                found.cancel_requested and not snapshot.cancel_requested
            ):
                snapshot = found
                yield snapshot


async def _published(mailbox: Mailbox, seconds: float) -> TaskSnapshot | None:
    """Returns what the bus brings within so many seconds; None if that is nothing."""
    try:
        async with asyncio.timeout(seconds):
            return await anext(mailbox)
    except TimeoutError:
        return None
    except StopAsyncIteration:  # the process that hosts this command is going away
        await asyncio.sleep(seconds)
        return None


async def _read(task_id: UUID) -> TaskSnapshot:
    """Reads the row; waits while the database does not answer."""
    deadline = time.monotonic() + DATABASE_TIMEOUT
    while True:
        try:
            snapshot = await sync_to_async(process.ledger().get)(task_id)
        except DatabaseError as error:
            await sync_to_async(connections.close_all)()
            if time.monotonic() > deadline:
                raise Stop(f"The database fails: {sentence(error)}", UNAVAILABLE) from error
            await asyncio.sleep(1)
            continue
        if snapshot is None:
            raise Stop(f"The task {task_id} has expired or was deleted.", UNAVAILABLE)
        return snapshot


def _end_of(task: TaskSnapshot) -> str:
    """Returns the last line: how the task ended, after how long, and with what."""
    seconds = None
    if task.started_at is not None and task.completed_at is not None:
        seconds = (task.completed_at - task.started_at).total_seconds()
    text = str(task.status) if seconds is None else f"{task.status} after {duration(seconds)}"
    if task.error is not None:
        kind = task.error_type or task.error_code
        return f"{text}: {one_line(kind)}: {one_line(task.error)}"
    if task.result is not None:
        return f"{text}: {cut(one_line(json.dumps(task.result)), RESULT_WIDTH)}"
    return text
