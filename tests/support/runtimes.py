"""Where a runtime's rows are kept, its settings, and its end.

- `store` runs a test on SQLite, PostgreSQL and in memory.
- `configure` sets task settings before the runtime starts, which happens at the first enqueue.
- `runtimes` holds runtimes of other processes, which `other_process` starts.
- `ends_cleanly` stops the runtime after a coroutine test, and sees that nothing is left of it.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from typing import Any

import pytest
from django.test.utils import override_settings

from rail_async_tasks.bus.memory import MemoryBus
from rail_async_tasks.conf import get_settings
from rail_async_tasks.hosting import process as host
from rail_async_tasks.hosting.making import make_ledger
from rail_async_tasks.registry import registry
from rail_async_tasks.runtime.runtime import Runtime
from rail_async_tasks.runtime.timings import RuntimeTimings
from tests.support.databases import default_database, empty_tables, forget_connections
from tests.support.waiting import TIMEOUT, eventually

Configure = Callable[..., None]

DATABASES = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]
on_databases = pytest.mark.parametrize("store", DATABASES, indirect=True)
# For what happens before a ledger is asked.
in_memory = pytest.mark.parametrize("store", ["memory"], indirect=True)


@pytest.fixture(autouse=True)
def declarations_are_the_tests_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks that a test declares are forgotten after it."""
    for name in ("_definitions", "coroutine_names", "thread_names"):
        monkeypatch.setattr(registry, name, getattr(registry, name))


@pytest.fixture(params=[*DATABASES, "memory"])
def store(request: pytest.FixtureRequest, django_db_blocker: Any) -> Iterator[str]:
    """`sqlite`, `postgres` or `memory`."""
    kind: str = request.param
    if kind == "memory":
        yield kind
        return
    config = request.getfixturevalue(f"{kind}_config")
    with django_db_blocker.unblock(), default_database(config):
        try:
            yield kind
        finally:
            forget_connections()
            empty_tables()


@pytest.fixture
def configure(store: str) -> Iterator[Configure]:
    """Sets task settings. Without a call they are the defaults, but for retries that come soon."""
    with ExitStack() as stack:

        def set_(**task_settings: Any) -> None:
            chosen = {"retry_delay": 0.01, "track_in_database": store != "memory", **task_settings}
            setting = {"task_settings": chosen}
            stack.enter_context(override_settings(RAIL_DJANGO_GRAPHQL=setting))

        set_()
        yield set_
        host.stop()  # one that lives in a loop thread


@pytest.fixture
async def runtimes(configure: Configure) -> AsyncIterator[AsyncExitStack]:
    """Stops the runtimes of other processes, see `other_process`, before this one's."""
    async with AsyncExitStack() as stack:
        yield stack


async def other_process(
    runtimes: AsyncExitStack,
    timings: RuntimeTimings = RuntimeTimings(),  # noqa: B008 (frozen)
) -> Runtime:
    """Starts one more runtime, with a ledger of its own, as another process has one."""
    ledger, bus = make_ledger(), MemoryBus()
    runtime = Runtime(get_settings(), registry, ledger, bus, timings=timings)
    runtime.start()
    runtimes.push_async_callback(runtime.stop)
    await eventually(lambda: runtime.holding)
    return runtime


@pytest.fixture
async def ends_cleanly(
    configure: Configure, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[None]:
    """Stops the runtime in the loop in which it lives; then nothing of it may be left."""
    yield
    runtime = host.current()
    await asyncio.wait_for(host.astop(), TIMEOUT)
    if runtime is not None:
        statistics = runtime.statistics()
        assert {key: statistics[key] for key in ("running", "leaked", "unsettled")} == {
            "running": 0, "leaked": 0, "unsettled": 0,
        }  # fmt: skip
    gc.collect()
    complaints = [record for record in caplog.records if record.name == "asyncio"]
    assert [it.getMessage() for it in complaints if it.levelno >= logging.WARNING] == []
