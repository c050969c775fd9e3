"""The observer of the runtime that follows Django tasks, and sends their signals."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import msgspec

from rail_async_tasks.conf import TaskSettings
from rail_async_tasks.contrib.django_tasks import functions, running_here, signals, starts
from rail_async_tasks.contrib.django_tasks.results import Arguments, TaskResult, result_of
from rail_async_tasks.hosting import process
from rail_async_tasks.registry import registry
from rail_async_tasks.snapshot import TaskSnapshot


class DjangoTaskObserver:
    """See `runtime.observers.Observer`. Executions of our own tasks cost one look at a dict."""

    def enqueued(self, snapshot: TaskSnapshot) -> None:
        if not _is_django_task(snapshot):
            return
        start = starts.take_inline(snapshot.id)
        if start is not None:
            start.stored(snapshot)
            signals.enqueued(start.result)
        elif snapshot.parent_id is not None:  # a retry: no `enqueue()` of Django's was called
            _send(partial(_send_enqueued, snapshot))

    def started(self, snapshot: TaskSnapshot) -> None:
        if _is_django_task(snapshot):
            running_here.claimed(snapshot)

    def slow(self, snapshot: TaskSnapshot, seconds: float) -> None:
        """Django has no signal for it."""

    def ended(self, snapshot: TaskSnapshot, seconds: float | None, traceback: str | None) -> None:
        arguments = running_here.ended(snapshot.id)
        if snapshot.is_final and _is_django_task(snapshot):
            _send(partial(_send_finished, snapshot, arguments, traceback))

    def dropped(self, snapshot: TaskSnapshot, seconds: float) -> None:
        running_here.ended(snapshot.id)


_observer = DjangoTaskObserver()


def observe(settings: TaskSettings) -> DjangoTaskObserver:
    """Returns the observer, for the registry of observers."""
    return _observer


def _is_django_task(snapshot: TaskSnapshot) -> bool:
    return functions.task_of(registry.get(snapshot.name)) is not None


def _send(call: Callable[[], None]) -> None:
    """Calls here; in the thread of signals where this is an event loop."""
    if asyncio._get_running_loop() is None:
        call()
    else:
        signals.send_soon(call)


def _send_enqueued(snapshot: TaskSnapshot) -> None:
    result = _result(snapshot, None, None)
    if result is not None:
        signals.enqueued(result)


def _send_finished(
    snapshot: TaskSnapshot, arguments: Arguments | None, traceback: str | None
) -> None:
    result = _result(snapshot, arguments, traceback)
    if result is not None:
        signals.finished(result)


def _result(
    snapshot: TaskSnapshot, arguments: Arguments | None, traceback: str | None
) -> TaskResult | None:
    """Returns the execution as a result; reads the arguments that are not at hand."""
    task = functions.find(snapshot.name)
    if arguments is None:
        arguments = read_arguments(process.ledger().arguments(snapshot.id))
    if task is None or arguments is None:
        return None
    return result_of(task, snapshot, arguments, traceback)


def read_arguments(stored: str | None) -> Arguments | None:
    """Returns the arguments of a row of a Django task; None for any other row."""
    if stored is None:
        return None
    try:
        return msgspec.json.decode(stored, type=Arguments)
    except msgspec.DecodeError:  # of a task of ours: other names, or other types
        return None
