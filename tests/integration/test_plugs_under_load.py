"""Every hook of a project raises, blocks or starts tasks, and two hundred tasks never notice."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.db import InterfaceError, OperationalError, connections
from django.db.backends.signals import connection_created
from django.test import AsyncClient
from django.test.utils import override_settings

from rail_async_tasks import safe_logging
from rail_async_tasks.hosting import process as host
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.runtime import observers
from rail_async_tasks.runtime.attempts.attempt import Attempt
from tests.integration import plugs
from tests.support.runtimes import Configure, on_databases
from tests.support.spans import exporter, ignored, processor
from tests.support.waiting import TIMEOUT, eventually

COUNT = 200
# So often runs each task that meets a hook of its own: once for each error.
TIMES = len(plugs.ERRORS)
# Hooks that are called in threads, and one that is called on the loop.
BLOCKING_HOOKS = ["authenticator", "tenant_resolver", "permission", "user model", "field extension"]
REQUEST_HOOKS = [*BLOCKING_HOOKS, "async field extension"]
RUNTIME_HOOKS = [
    "failure_callback", "observer", "log filter", "log handler", "connection_created",
    "around_task", "span on_start", "span on_end", "result", "exception",
]  # fmt: skip
MISUSED = [
    plugs.fall, plugs.rude_result, plugs.rude_exception, plugs.wrapped, plugs.wrapped_in_thread,
]  # fmt: skip
LOGGERS = ["rail_async_tasks", "strawberry.execution"]
GUARDED = json.dumps({"query": "mutation { guarded { taskId error } }"})
# What a round may leave behind, in MiB: allocators keep some.
SLACK = 16.0


# Threads that are kept for the next call, by their names: their number varies up to a limit.
POOLS = ("rail-tasks-callback", "rail-tasks-def", "rail-tasks-orm", "asyncio")
POOLED = 10 + 4 + 4 + 32


def pooled() -> int:
    """How many threads of pools there are."""
    return sum(it.name.startswith(POOLS) for it in threading.enumerate())


def threads() -> int:
    """How many others there are."""
    return threading.active_count() - pooled()


def memory() -> float:
    """Returns this process's memory, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.fixture
def plugged(
    configure: Configure, store: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[plugs.Switch]:
    """Everything is plugged in; nothing misbehaves yet."""
    switch = plugs.Switch()
    place = plugs.__name__
    monkeypatch.setattr(plugs, "switch", switch)
    monkeypatch.setattr(observers, "_factories", dict(observers._factories))
    monkeypatch.setattr(observers, "_known", None)
    observers.register(lambda settings: plugs.Observer())  # type: ignore[arg-type, return-value]
    settings = {
        "schema_settings": {"mutation_extensions": [f"{place}.Mutations"]},
        "task_settings": {
            "log_task_start": True,
            "log_task_complete": True,
            "metrics_enabled": True,
            "otel_enabled": True,
            "around_task": f"{place}.around",
            "authenticator": f"{place}.authenticator",
            "tenant_resolver": f"{place}.tenant_resolver",
            "on_failure": "callback",
            "failure_callback": f"{place}.failure_callback",
        },
    }
    handler = plugs.Handler(logging.INFO)
    with ExitStack() as stack:
        stack.enter_context(override_settings(RAIL_DJANGO_GRAPHQL=settings))
        for name in LOGGERS:
            logger = logging.getLogger(name)
            logger.addHandler(handler)
            stack.callback(logger.removeHandler, handler)
        logging.getLogger("rail_async_tasks").setLevel(logging.INFO)
        stack.callback(logging.getLogger("rail_async_tasks").setLevel, logging.NOTSET)
        exporter().clear()
        stack.callback(exporter().clear)
        stack.callback(setattr, processor(), "act", ignored)
        processor().act = plugs.on_span
        connection_created.connect(plugs.on_connection, weak=False)
        stack.callback(connection_created.disconnect, plugs.on_connection)
        yield switch
        switch.act = plugs.nothing
        switch.gate.set()
        safe_logging.flush(10)


async def request(hook: str) -> tuple[int, str | None]:
    """Starts a task by a mutation whose hook acts: the status, and the error's code if any."""
    # Each request has a thread of its own, as under a server.
    async with ThreadSensitiveContext():
        try:
            response = await AsyncClient().post(
                "/graphql/", data=GUARDED, content_type="application/json",
                headers={"x-hook": hook},
            )  # fmt: skip
        finally:
            await sync_to_async(connections.close_all)()
    answer = response.json()
    errors = answer.get("errors")
    return response.status_code, errors[0]["extensions"]["code"] if errors else None


async def innocents_complete() -> None:
    """All of them, with their own results, while the hooks do what they do."""
    tasks = [plugs.innocent, plugs.innocent_in_thread]
    for declared in MISUSED:
        for _ in range(TIMES):
            await declared.aenqueue()
    handles = await asyncio.gather(*(tasks[n % 2].aenqueue(n=n) for n in range(COUNT)))
    for n, handle in enumerate(handles):
        assert await handle.aresult(TIMEOUT) == n


async def one_round(switch: plugs.Switch, act: Callable[[str], None]) -> list[tuple[int, Any]]:
    """Returns how the requests were answered, in the order of their hooks."""
    switch.calls.clear()
    switch.gate.clear()
    switch.act = act
    requests = [asyncio.create_task(request(hook)) for hook in REQUEST_HOOKS]
    if act is plugs.blocks:
        await eventually(lambda: all(switch.calls[hook] for hook in REQUEST_HOOKS))
    # The writers connect anew, and the hooks of connections act.
    await drop_connections()
    await innocents_complete()
    if act is plugs.blocks:
        blocked = requests[: len(BLOCKING_HOOKS)]
        assert [it.done() for it in blocked] == [False] * len(blocked)
    await eventually(lambda: all(switch.calls[hook] for hook in RUNTIME_HOOKS))
    switch.gate.set()
    async with asyncio.timeout(TIMEOUT):
        answers = await asyncio.gather(*requests)
    switch.act = plugs.nothing
    exporter().clear()
    await asyncio.to_thread(safe_logging.flush, 10)
    return answers


async def drop_connections() -> None:
    """The writers lose theirs, as in an outage."""
    ledger: Any = host.ledger()
    with suppress(OperationalError, InterfaceError):
        await ledger.writers().run_once(_lost)


def _lost() -> None:
    raise OperationalError("the connection is lost")


def living_attempts() -> int:
    """Returns how many attempts the garbage collector knows."""
    return sum(type(it) is Attempt for it in gc.get_objects())


async def healthy() -> bool:
    ready = await AsyncClient().get("/tasks/health/ready")
    live = await AsyncClient().get("/tasks/health/live")
    return (ready.status_code, live.status_code) == (200, 200)


@pytest.mark.covering("store", "act")
@on_databases
@pytest.mark.parametrize("act", [plugs.raises, plugs.blocks, plugs.enqueues])
async def test_no_hook_hurts_other_tasks(
    store: str, plugged: plugs.Switch, act: Callable[[str], None]
) -> None:
    """All complete, the process is healthy, and a second round takes no more than the first."""
    try:
        gc.collect()
        others = living_attempts()  # of tests before this one
        await plugs.innocent.aenqueue(n=0)
        runtime = host.current()
        assert runtime is not None
        await eventually(lambda: runtime.holding)
        answers = await one_round(plugged, act)
        if act is plugs.raises:  # each is refused, with a code, and starts nothing
            codes = dict(zip(REQUEST_HOOKS, answers, strict=True))
            assert codes["authenticator"] == (401, "UNAUTHENTICATED")
            assert {codes[it] for it in REQUEST_HOOKS[1:]} == {(200, "INTERNAL_ERROR")}
            assert await TaskExecution.objects.filter(name="plugs.guarded").acount() == 0
        else:
            # No hook on the loop may use the ORM.
            last = (200, "INTERNAL_ERROR" if act is plugs.enqueues else None)
            assert answers == [(200, None)] * len(BLOCKING_HOOKS) + [last]
        gc.collect()
        before = threads()
        # A leak grows in each round; what allocators keep, or a test before, in one.
        for _ in range(4):
            resident = memory()
            await one_round(plugged, act)
            gc.collect()
            if (grown := memory() - resident) < SLACK:
                break
        await eventually(healthy)
        assert host.current() is runtime
        assert (runtime.fences, runtime.draining) == (0, False)
        await eventually(lambda: not runtime.attempts)
        unfinished = TaskExecution.objects.filter(completed_at=None)
        assert [row.name async for row in unfinished] == []
        await eventually(lambda: threads() <= before)
        assert pooled() <= POOLED
        gc.collect()
        assert grown < SLACK
        # A free worker may hold one, and a traceback in the test's own log one that has failed.
        assert living_attempts() - others < COUNT / 10 + TIMES * len(MISUSED)
    finally:
        plugged.act = plugs.nothing
        plugged.gate.set()
        await asyncio.wait_for(host.astop(), TIMEOUT)
