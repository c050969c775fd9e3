"""Begins and ends the tools of one test, so that nothing leaks into the next."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rail_async_tasks.hosting import process
from rail_async_tasks.hosting.held import holding
from rail_async_tasks.testing.connections import shared
from rail_async_tasks.testing.tools import RailTasks


@contextmanager
def isolated() -> Iterator[RailTasks]:
    """Holds the tasks of a test; in the test's thread, inside of its transaction.

    A runtime that an earlier test has left would start what this one commits: it ends first.
    """
    stop_runtime()
    with shared() as connections, holding() as held:
        yield RailTasks(held, connections)


def lives_in_a_test() -> bool:
    """Returns whether the task runtime of this process lives in a loop that rests: a test's."""
    runtime = process.current()
    return runtime is not None and runtime.alive and not runtime.loop.is_running()


def stop_runtime() -> None:
    """Ends the task runtime of this process, if a test has started one.

    For tests that let tasks run by themselves, as against a live server: its threads have database
    connections, with which no test database can be dropped. Running tasks are handed back.
    """
    runtime = process.current()
    process.hurry()
    process.stop()
    if runtime is not None and runtime.alive:
        # On the loop of another test: it ends with the next turn of that loop, if one comes.
        with suppress(RuntimeError):
            asyncio.run_coroutine_threadsafe(process.astop(), runtime.loop)
