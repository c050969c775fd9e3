"""Log fields: every line that is logged inside a task names the task."""

from __future__ import annotations

import asyncio
import logging
import logging.handlers
import queue
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from asgiref.sync import sync_to_async

from rail_async_tasks import task
from rail_async_tasks.logs import FIELDS, TaskFields, add_task_fields, task_fields
from tests.support.runtimes import Configure, in_memory
from tests.support.spans import exporter
from tests.support.waiting import eventually, final

pytestmark = [pytest.mark.usefixtures("ends_cleanly"), pytest.mark.turns("store")]

# A logger of a library, which knows nothing of tasks.
library = logging.getLogger("a.library")


class Kept(logging.Handler):
    """Keeps records that have passed its filters."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def kept() -> Iterator[Kept]:
    """A handler of the root logger, with the filter."""
    handler = Kept()
    handler.addFilter(TaskFields())
    logging.getLogger().addHandler(handler)
    yield handler
    logging.getLogger().removeHandler(handler)


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in FIELDS}


@pytest.mark.parametrize("backend", ["asyncio", "thread", "sync"])
@pytest.mark.parametrize("kind", ["async def", "def"])
async def test_every_line_of_a_body_names_its_task(
    configure: Configure, kept: Kept, backend: str, kind: str
) -> None:
    """Of any logger, in its coroutine or thread, in the tasks and threads that it starts."""
    configure(backend=backend)

    async def child() -> None:
        library.warning("in a task")

    async def body() -> None:
        library.warning("in the coroutine")
        await asyncio.create_task(child())
        await sync_to_async(library.warning)("in a thread")
        await asyncio.to_thread(library.warning, "in another")

    def plain() -> None:
        library.warning("in the thread")

    declared = task(name="l.one", queue="low")(body if kind == "async def" else plain)
    handle = await declared.using(owner="7").aenqueue()
    await final(handle)
    library.warning("outside")
    *inside, outside = [it for it in kept.records if it.name == "a.library"]
    assert len(inside) == (4 if kind == "async def" else 1)
    for record in inside:
        assert fields_of(record) == {
            "task_id": str(handle.id), "task_name": "l.one", "attempt": 1, "queue": "low",
            "owner_id": "7", "trace_id": None,
        }  # fmt: skip
    assert fields_of(outside) == dict.fromkeys(FIELDS)
    assert task_fields() == {}


@in_memory
async def test_neighbours_and_attempts_have_fields_of_their_own(
    configure: Configure, kept: Kept
) -> None:
    """Each line has its own task's id and its own attempt's number."""
    configure(retry_delay=0)

    @task(name="l.twice")
    async def twice(info: Any, n: int) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
            library.warning("%s %s", info.context.task.id, info.context.task.attempt)
        if info.context.task.attempt == 1:
            raise ValueError

    for handle in [await twice.aenqueue(n=n) for n in range(5)]:
        await final(handle)
    lines = [it for it in kept.records if it.name == "a.library"]
    assert len(lines) == 30
    for record in lines:
        assert record.getMessage() == f"{record.__dict__['task_id']} {record.__dict__['attempt']}"


@in_memory
async def test_the_trace_is_named(configure: Configure, kept: Kept) -> None:
    """In the body's lines, and in the runtime's own line about its failure."""
    exporter().clear()
    configure(otel_enabled=True)

    @task(name="l.fall", max_retries=0)
    async def fall() -> None:
        library.warning("about to")
        raise ValueError

    await final(await fall.aenqueue())
    await eventually(lambda: any(it.name == "rail_async_tasks.failures" for it in kept.records))
    await eventually(lambda: len(exporter().get_finished_spans()) == 2)
    (trace_id,) = {f"{it.context.trace_id:032x}" for it in exporter().get_finished_spans()}
    for name in ("a.library", "rail_async_tasks.failures"):
        (record,) = [it for it in kept.records if it.name == name]
        assert fields_of(record)["trace_id"] == trace_id
        assert fields_of(record)["task_name"] == "l.fall"


@in_memory
async def test_a_queue_between_logger_and_handler(configure: Configure) -> None:
    """The filter is on the `QueueHandler`: its thread knows nothing of tasks."""
    records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    handler = logging.handlers.QueueHandler(records)
    handler.addFilter(TaskFields())
    library.addHandler(handler)
    try:

        @task(name="l.queued")
        async def queued() -> None:
            library.warning("queued")

        handle = await queued.aenqueue()
        await final(handle)
    finally:
        library.removeHandler(handler)
    assert records.get_nowait().__dict__["task_id"] == str(handle.id)


@in_memory
async def test_structlog_gets_them_by_a_processor(configure: Configure) -> None:
    """Those that have a value; what the call itself gives stays."""
    with structlog.testing.capture_logs(processors=[add_task_fields]) as events:

        @task(name="l.structured")
        async def structured() -> None:
            structlog.get_logger().info("inside", queue="the caller's")

        handle = await structured.aenqueue()
        await final(handle)
        structlog.get_logger().info("outside")
    inside, outside = events
    assert inside == {
        "event": "inside", "log_level": "info", "queue": "the caller's", "attempt": 1,
        "task_id": str(handle.id), "task_name": "l.structured",
    }  # fmt: skip
    assert outside == {"event": "outside", "log_level": "info"}
