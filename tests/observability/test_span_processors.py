"""A span processor of the project raises: every task starts, runs and is announced all the same."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind

from rail_async_tasks import task
from rail_async_tasks.hosting import process as host
from tests.support.recorder import Recorder
from tests.support.runtimes import Configure, in_memory, on_databases
from tests.support.spans import exporter, ignored, processor
from tests.support.waiting import TIMEOUT, eventually, final

pytestmark = [pytest.mark.usefixtures("ends_cleanly"), pytest.mark.turns("store")]

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "thread", "sync"])
ERRORS = pytest.mark.parametrize(
    "error", [AttributeError, SystemExit, StopIteration, asyncio.CancelledError, GeneratorExit]
)
EVENTS = pytest.mark.parametrize("event", ["on_start", "on_end"])
KINDS = pytest.mark.parametrize("kind", [SpanKind.PRODUCER, SpanKind.CONSUMER])

failures: list[str] = []


def failure_callback(**keywords: str) -> None:
    failures.append(keywords["task_name"])


class Raises:
    """Raises for the spans of one kind, as a processor does that reads what only requests have."""

    def __init__(self, event: str, kind: SpanKind, error: type[BaseException]) -> None:
        self.event, self.kind, self.error = event, kind, error
        self.times = 0

    def __call__(self, event: str, span: ReadableSpan) -> None:
        if (event, span.kind) == (self.event, self.kind):
            self.times += 1
            raise self.error("no request here")


@pytest.fixture(autouse=True)
def well_behaved_after() -> Iterator[None]:
    exporter().clear()
    yield
    processor().act = ignored
    exporter().clear()


async def all_start_and_run(configure: Configure, rude: Raises, **settings: Any) -> None:
    """More tasks than slots: one that is not freed would hold up the others."""
    failures.clear()
    place = f"{__name__}.failure_callback"
    configure(
        otel_enabled=True, max_concurrency=2, on_failure="callback", failure_callback=place,
        **settings,
    )  # fmt: skip
    processor().act = rude

    @task(name="p.well")
    async def well(n: int) -> int:
        return n

    @task(name="p.well_in_thread")
    def well_in_thread(n: int) -> int:
        return n

    @task(name="p.falls", max_retries=0)
    async def falls() -> None:
        raise ValueError("on purpose")

    handles = [await well.aenqueue(n=n) for n in range(5)]
    handles += [await well_in_thread.aenqueue(n=n) for n in range(5)]
    handles += await well.aenqueue_many([{"n": n} for n in range(5)])
    async with asyncio.timeout(TIMEOUT):
        assert [await handle.aresult(TIMEOUT) for handle in handles] == [*range(5)] * 3
    assert (await final(await falls.aenqueue())).status == "failed"
    await eventually(lambda: failures == ["p.falls"])
    assert rude.times >= 2


@pytest.mark.covering("store", "backend", "event", "kind", "error")
@on_databases
@BACKENDS
@EVENTS
@KINDS
@ERRORS
async def test_tasks_start_and_run(
    configure: Configure, store: str, recorder: Recorder, backend: str, event: str, kind: SpanKind,
    error: type[BaseException],
) -> None:  # fmt: skip
    """Observers see each end, and nothing is left in the runtime."""
    await all_start_and_run(configure, Raises(event, kind, error), backend=backend)
    ends = [it for it in recorder.seen if it[0] in ("ended", "dropped")]
    assert [it[:2] for it in ends] == [("ended", "completed")] * 15 + [("ended", "failed")]
    runtime = host.hosted()
    if runtime is not None:
        await eventually(lambda: not runtime.attempts)
        assert runtime.statistics()["running"] == 0


@in_memory
@EVENTS
@KINDS
async def test_rows_in_memory(configure: Configure, event: str, kind: SpanKind) -> None:
    """There the start itself begins the attempt: it returns its handle all the same."""
    await all_start_and_run(configure, Raises(event, kind, AttributeError))


@on_databases
async def test_the_span_of_an_attempt_is_exported_though_another_processor_raises(
    configure: Configure,
) -> None:
    """With its outcome, and the trace of its start."""
    await all_start_and_run(configure, Raises("on_end", SpanKind.CONSUMER, AttributeError))
    spans = {it.name: it for it in exporter().get_finished_spans()}
    consumer = spans["process default"]
    assert consumer.attributes is not None
    assert consumer.attributes["rail_tasks.outcome"] == "failed"
    assert consumer.context.trace_id == spans["send default"].context.trace_id
