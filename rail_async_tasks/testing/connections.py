"""The test's own database connections, in every thread that works for the test.

A test's transaction belongs to one connection, and Django's connections to one thread. In a
coroutine test the ORM works in a thread of asgiref's, whose connection would see nothing of that
transaction, write past it, and outlive the test. So those threads get the test's connections.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final, TypeAlias, TypeVar

from asgiref.sync import AsyncToSync, SyncToAsync
from django.db import connections

T = TypeVar("T")
Connections: TypeAlias = Mapping[str, Any]

# How long asgiref's thread may be busy with another test's call, in seconds.
_BUSY_TIMEOUT: Final = 30.0


def of_this_test() -> Connections:
    """Returns the connections of the test, by alias; from its own thread or its event loop."""
    loop = asyncio._get_running_loop()
    executor = None if loop is None else AsyncToSync.loop_thread_executors.get(loop)
    if executor is None:
        return _of_this_thread()
    # Django runs a coroutine test on a loop of its own; the test's thread waits for it.
    return executor.submit(_of_this_thread).result(_BUSY_TIMEOUT)


@contextmanager
def shared() -> Iterator[Connections]:
    """Has asgiref's thread use the connections of the test while the block runs."""
    mine = of_this_test()
    with _shareable(mine):
        before = _in_asgiref_thread(lambda: _install(mine))
        try:
            yield mine
        finally:
            _in_asgiref_thread(lambda: _install(before))


def call_here(function: Callable[[], T], of_test: Connections | None = None) -> T:
    """Returns what the function returns, with the test's connections and no running event loop.

    On an event loop it runs in another thread, and the loop waits. There coroutines run on loops of
    their own.
    """
    if asyncio._get_running_loop() is None:
        return function()
    mine = of_this_test() if of_test is None else of_test

    def in_thread() -> T:
        _install(mine)
        try:
            return function()
        finally:
            _install({})

    context = contextvars.copy_context()
    with _shareable(mine), ThreadPoolExecutor(1, "rail-tasks-test") as thread:
        return thread.submit(context.run, in_thread).result()


@contextmanager
def _shareable(shared: Connections) -> Iterator[None]:
    for connection in shared.values():
        connection.inc_thread_sharing()
    try:
        yield
    finally:
        for connection in shared.values():
            connection.dec_thread_sharing()


def _of_this_thread() -> dict[str, Any]:
    # On a running loop `connections` has others: those of the current asyncio task.
    loop = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        return {alias: connections[alias] for alias in connections}
    finally:
        asyncio._set_running_loop(loop)


def _install(theirs: Connections) -> dict[str, Any]:
    """Gives this thread other connections; returns those that it had."""
    had = {it.alias: it for it in connections.all(initialized_only=True)}
    for alias in connections:
        if alias in theirs:
            connections[alias] = theirs[alias]
        elif alias in had:
            del connections[alias]
    return had


def _in_asgiref_thread(function: Callable[[], T]) -> T:
    return SyncToAsync.single_thread_executor.submit(function).result(_BUSY_TIMEOUT)
