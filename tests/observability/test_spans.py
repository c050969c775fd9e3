"""Spans: one trace from the start of a task to the end of its last attempt, on every backend."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from rail_async_tasks import ConfigurationError, Fail, QueueFull, TaskHandle, service, task
from rail_async_tasks.access import SYSTEM
from rail_async_tasks.conf import get_settings
from rail_async_tasks.hosting import process as host
from rail_async_tasks.ledger.records import Claimed
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.observability import spans as module
from rail_async_tasks.observability import trace_by_otel
from rail_async_tasks.runtime import tracing
from tests.support.runtimes import Configure, in_memory, on_databases
from tests.support.spans import Spans, exporter, facts, ids
from tests.support.waiting import TIMEOUT, eventually, final, until_status

pytestmark = [pytest.mark.usefixtures("ends_cleanly"), pytest.mark.turns("store")]

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "thread", "sync"])
tracer = trace.get_tracer("of the project")


@pytest.fixture
def spans(configure: Configure) -> Iterator[Spans]:
    """The spans of the test, with `otel_enabled` on."""
    exporter().clear()
    configure(otel_enabled=True)
    yield Spans(exporter())
    exporter().clear()


async def ended(spans: Spans, count: int = 1, queue: str = "default") -> list[ReadableSpan]:
    """The consumer spans, once there are so many; they end after their outcome is stored."""
    await eventually(lambda: len(spans.named(f"process {queue}")) >= count)
    return spans.named(f"process {queue}")


def where_it_runs() -> tuple[int, int]:
    found = trace.get_current_span().get_span_context()
    return found.trace_id, found.span_id


# --- one trace ------------------------------------------------------------------------------------


@BACKENDS
@pytest.mark.parametrize("kind", ["async def", "def"])
async def test_one_trace_from_the_start_to_the_body(
    configure: Configure, spans: Spans, backend: str, kind: str
) -> None:
    """The caller's span, the producer's below it, the consumer's below that, and the body's own."""
    configure(otel_enabled=True, backend=backend)

    async def body() -> list[int]:
        with tracer.start_as_current_span("in the body"):
            return list(where_it_runs())

    def plain() -> list[int]:
        with tracer.start_as_current_span("in the body"):
            return list(where_it_runs())

    declared = task(name="traced.one", queue="traced")(body if kind == "async def" else plain)
    with tracer.start_as_current_span("the request"):
        handle = await declared.aenqueue()
    snapshot = await final(handle)
    (consumer,) = await ended(spans, queue="traced")
    producer, inner = spans.one("send traced"), spans.one("in the body")
    request = spans.one("the request")
    assert producer.parent is not None
    assert producer.parent.span_id == request.context.span_id
    assert consumer.parent is not None
    assert consumer.parent.span_id == producer.context.span_id
    assert [ids(it) for it in (consumer.links[0],)] == [ids(producer)]
    assert inner.parent is not None
    assert inner.parent.span_id == consumer.context.span_id
    assert {it.context.trace_id for it in spans.all} == {request.context.trace_id}
    assert snapshot.result == list(ids(inner))
    assert (producer.kind, consumer.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    common = {
        "messaging.system": "rail_async_tasks", "messaging.destination.name": "traced",
        "messaging.message.id": str(handle.id), "rail_tasks.task": "traced.one",
    }  # fmt: skip
    assert facts(producer) == common | {
        "messaging.operation.name": "send", "messaging.operation.type": "send",
    }  # fmt: skip
    assert facts(consumer) == common | {
        "messaging.operation.name": "process", "messaging.operation.type": "process",
        "rail_tasks.attempt": 1, "rail_tasks.outcome": "completed",
        "code.function.name": f"{__name__}.{(body if kind == 'async def' else plain).__qualname__}",
    }  # fmt: skip
    assert (producer.status.status_code, consumer.status.status_code) == (StatusCode.UNSET,) * 2


@in_memory
async def test_the_span_is_current_wherever_the_body_is(spans: Spans) -> None:
    """In asyncio tasks that it starts, in threads of `sync_to_async` and `to_thread`."""
    seen: list[tuple[int, int]] = []

    async def child() -> None:
        seen.append(where_it_runs())

    @task(name="s.everywhere")
    async def everywhere() -> None:
        await asyncio.create_task(child())
        seen.append(await sync_to_async(where_it_runs)())
        seen.append(await asyncio.to_thread(where_it_runs))

    await final(await everywhere.aenqueue())
    (consumer,) = await ended(spans)
    assert seen == [ids(consumer)] * 3


@in_memory
async def test_a_task_that_a_body_starts_is_of_its_trace(spans: Spans) -> None:
    """Below the span of the attempt that starts it."""

    @task(name="s.inner", queue="low")
    async def inner() -> None: ...

    @task(name="s.outer")
    async def outer() -> None:
        await (await inner.aenqueue()).aresult(TIMEOUT)

    await final(await outer.aenqueue())
    (consumer,) = await ended(spans)
    producer = spans.one("send low")
    assert producer.parent is not None
    assert ids(consumer) == (producer.parent.trace_id, producer.parent.span_id)
    assert (await ended(spans, queue="low"))[0].context.trace_id == consumer.context.trace_id


@in_memory
async def test_many_starts_are_one_span(spans: Spans) -> None:
    """All attempts are below it, each linked to it."""

    @task(name="s.many")
    async def many(n: int) -> None: ...

    handles = await many.aenqueue_many([{"n": n} for n in range(3)])
    for handle in handles:
        await final(handle)
    consumers = await ended(spans, 3)
    producer = spans.one("send default")
    assert facts(producer)["messaging.batch.message_count"] == 3
    assert "messaging.message.id" not in facts(producer)
    assert {it.parent.span_id for it in consumers if it.parent} == {producer.context.span_id}
    assert {facts(it)["messaging.message.id"] for it in consumers} == {str(it.id) for it in handles}


@on_databases
async def test_a_schedule_starts_a_trace(configure: Configure, spans: Spans) -> None:
    """Each tick one, in the process that takes it; a tick that another process has is no span."""
    runtime = await host.aruntime()

    @task(name="s.nightly", cron="0 0 29 2 *")
    async def nightly() -> None: ...

    scheduler = runtime.services.upkeep.scheduler
    definition = nightly.definition
    tick = datetime.now(UTC).replace(second=0, microsecond=0)
    await host.ledger().schedule("s.nightly", tick - timedelta(minutes=1))  # type: ignore[attr-defined]
    ticks = scheduler._timings.ticks_of("0 0 29 2 *")
    for _ in range(2):
        await scheduler._start(definition, ticks, tick)
    (consumer,) = await ended(spans)
    producer = spans.one("send default")
    assert producer.parent is None
    assert consumer.parent is not None
    assert consumer.parent.span_id == producer.context.span_id


# --- how attempts end -----------------------------------------------------------------------------

SECRET = "4111-1111"


@BACKENDS
async def test_retries_are_spans_of_the_same_trace(
    configure: Configure, spans: Spans, backend: str
) -> None:
    """Each with its number, how it ended, and the error's class and place; never its text."""
    configure(otel_enabled=True, backend=backend)

    @task(name="s.fall", max_retries=1)
    async def fall(card: str) -> None:
        raise KeyError(card)

    await final(await fall.aenqueue(card=SECRET))
    first, last = await ended(spans, 2)
    assert first.context.trace_id == last.context.trace_id
    assert [facts(it)["rail_tasks.attempt"] for it in (first, last)] == [1, 2]
    assert [facts(it)["rail_tasks.outcome"] for it in (first, last)] == ["retrying", "failed"]
    for span in (first, last):
        assert facts(span)["error.type"] == "KeyError"
        assert facts(span)["rail_tasks.error_code"] == "exception"
        assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, None)
        (event,) = span.events
        assert event.attributes is not None
        assert event.attributes["exception.type"] == "KeyError"
        assert "raise KeyError(card)" in str(event.attributes["exception.stacktrace"])
        assert SECRET not in span.to_json()


@in_memory
async def test_a_text_for_users_is_shown(spans: Spans) -> None:
    """That of `Fail`, in the event and as the status's description."""

    @task(name="s.refuse")
    async def refuse() -> None:
        raise Fail("The file is empty.")

    await final(await refuse.aenqueue())
    (span,) = await ended(spans)
    assert span.status.description == "The file is empty."
    (event,) = span.events
    assert event.attributes is not None
    assert event.attributes["exception.message"] == "The file is empty."
    assert event.attributes["exception.type"] == "rail_async_tasks.errors.Fail"


@in_memory
async def test_a_timeout_is_an_error_and_a_cancel_is_none(
    configure: Configure, spans: Spans
) -> None:
    """The one has its error code, the other only its outcome."""

    @task(name="s.late", timeout=0.05, max_retries=0)
    async def late() -> None:
        await asyncio.Event().wait()

    @task(name="s.hang", queue="low")
    async def hang() -> None:
        await asyncio.Event().wait()

    await final(await late.aenqueue())
    (span,) = await ended(spans)
    assert facts(span)["rail_tasks.error_code"] == "timeout"
    assert span.status.status_code is StatusCode.ERROR
    assert "0.05 s" in str(span.status.description)
    handle = await hang.aenqueue()
    await until_status(handle, "running")
    await handle.acancel()
    await final(handle)
    (span,) = await ended(spans, queue="low")
    assert facts(span)["rail_tasks.outcome"] == "cancelled"
    assert span.status.status_code is StatusCode.UNSET


@on_databases
async def test_an_attempt_that_is_handed_back_goes_on_in_the_same_trace(
    configure: Configure, spans: Spans
) -> None:
    """Its own span is no error; the next one has the next number."""
    configure(otel_enabled=True, drain_seconds=0)
    began, go = asyncio.Event(), asyncio.Event()

    @task(name="s.long")
    async def long() -> None:
        began.set()
        await go.wait()

    handle = await long.aenqueue()
    await began.wait()  # an attempt that has not begun has no span
    await host.astop()
    (first,) = await ended(spans)
    assert facts(first)["rail_tasks.outcome"] == "handed_back"
    assert first.status.status_code is StatusCode.UNSET
    go.set()
    await host.aruntime()
    await final(handle)
    _, last = await ended(spans, 2)
    assert facts(last)["rail_tasks.attempt"] == 2
    assert facts(last)["rail_tasks.outcome"] == "completed"
    assert first.context.trace_id == last.context.trace_id


@on_databases
async def test_an_outcome_that_is_dropped_ends_its_span(configure: Configure, spans: Spans) -> None:
    """Another process has taken the task over."""
    go = asyncio.Event()

    @task(name="s.robbed")
    async def robbed() -> None:
        await go.wait()

    handle = await robbed.aenqueue()
    await until_status(handle, "running")
    await TaskExecution.objects.filter(id=handle.id).aupdate(token=handle.id)
    go.set()
    (span,) = await ended(spans)
    assert facts(span)["rail_tasks.outcome"] == "dropped"
    await TaskExecution.objects.filter(id=handle.id).adelete()


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
async def test_the_span_ends_with_the_body(spans: Spans) -> None:
    """Not with the commit of its outcome, which comes later: both clocks are this machine's."""

    @task(name="s.nap")
    async def nap() -> None:
        with tracer.start_as_current_span("in the body"):
            await asyncio.sleep(0)

    snapshot = await final(await nap.aenqueue())
    (span,) = await ended(spans)
    inner = spans.one("in the body")
    assert span.start_time is not None
    assert inner.start_time is not None
    assert span.start_time <= inner.start_time
    assert span.end_time is not None
    assert inner.end_time is not None
    assert snapshot.completed_at is not None
    # SQLite keeps milliseconds, and cuts off the rest.
    stored = (snapshot.completed_at.timestamp() + 0.001) * 1e9
    assert inner.end_time <= span.end_time <= stored


# --- how starts end -------------------------------------------------------------------------------


@in_memory
async def test_a_start_that_is_refused_is_an_error(configure: Configure, spans: Spans) -> None:
    """Of the producer's span: its type and our own text."""
    configure(otel_enabled=True, max_pending=0)

    @task(name="s.refused")
    async def refused() -> None: ...

    with pytest.raises(QueueFull):
        await refused.using(delay=60).aenqueue()
    span = spans.one("send default")
    assert facts(span)["error.type"] == "rail_async_tasks.errors.QueueFull"
    assert span.status.status_code is StatusCode.ERROR


@in_memory
async def test_a_unique_task_that_is_there_already_is_named(spans: Spans) -> None:
    """The span says that nothing new was stored."""

    @task(name="s.only", unique=True)
    async def only() -> None: ...

    first = await only.using(delay=3600).aenqueue()
    again = await only.using(delay=3600).aenqueue()
    assert again.id == first.id
    fresh, existing = spans.named("send default")
    assert "rail_tasks.existing" not in facts(fresh)
    assert facts(existing)["rail_tasks.existing"] is True
    assert facts(existing)["messaging.message.id"] == str(first.id)


# --- the row --------------------------------------------------------------------------------------


async def columns(handle: TaskHandle) -> tuple[str | None, str | None]:
    row = await TaskExecution.objects.aget(id=handle.id)
    return row.traceparent, row.tracestate


@on_databases
async def test_the_row_keeps_the_span_that_started_it(configure: Configure, spans: Spans) -> None:
    """And nothing where tracing is off, or where a task is retried by hand in another trace."""

    @task(name="s.kept", max_retries=0)
    async def kept() -> None: ...

    handle = await kept.aenqueue()
    await final(handle)
    producer = spans.one("send default")
    trace_id, span_id = ids(producer)
    flags = producer.context.trace_flags
    assert await columns(handle) == (f"00-{trace_id:032x}-{span_id:016x}-{flags:02x}", None)
    again = await service.aretry(SYSTEM, handle.id)
    await ended(spans, 2)
    row = await TaskExecution.objects.aget(id=again.id)
    _, other = spans.named("send default")
    assert other.context.trace_id != trace_id
    assert row.traceparent is not None
    assert f"{other.context.trace_id:032x}" in row.traceparent
    await host.astop()
    configure(otel_enabled=False)
    handle = await kept.aenqueue()
    await final(handle)
    assert await columns(handle) == (None, None)


def claimed_with(handle: TaskHandle, **trace_context: str) -> Claimed:
    return Claimed(handle.snapshot, "{}", handle.id, **trace_context)


@in_memory
@pytest.mark.parametrize("written", ["", "x", "00-" + "0" * 32 + "-" + "1" * 16 + "-01", "9" * 55])
async def test_a_column_that_is_no_trace_context_starts_a_trace(spans: Spans, written: str) -> None:
    """A foreign tool may have written it."""

    @task(name="s.odd")
    async def odd() -> None: ...

    handle = await odd.using(delay=3600).aenqueue()
    with tracer.start_as_current_span("of another task"):
        span = module.SpanTracer().attempt(
            claimed_with(handle, traceparent=written), odd.definition
        )
    span.dropped()
    found = spans.one("process default")
    assert found.parent is None
    assert not found.links


@in_memory
async def test_a_tracestate_is_carried_and_bounded(spans: Spans) -> None:
    """Members that the column does not hold are left out, the last ones first."""
    members = [(f"key{n:02}", "v" * 50) for n in range(32)]
    remote = trace.SpanContext(
        1, 2, is_remote=True, trace_flags=trace.TraceFlags(1), trace_state=trace.TraceState(members)
    )
    traceparent, tracestate = module._written(remote)
    assert traceparent == f"00-{1:032x}-{2:016x}-01"
    assert tracestate is not None
    assert len(tracestate) <= 512
    assert tracestate.startswith(f"key00={'v' * 50},key01=")
    assert tracestate.endswith("v" * 50)
    found = trace.get_current_span(module._read(traceparent, tracestate)).get_span_context()
    assert (found.trace_id, found.span_id, found.is_remote) == (1, 2, True)
    assert found.trace_state["key00"] == "v" * 50


# --- switched off ---------------------------------------------------------------------------------

PROGRAM = """
import sys
import django
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "rail_async_tasks"],
    RAIL_DJANGO_GRAPHQL={"task_settings": {"track_in_database": False, "backend": sys.argv[1]}},
)
django.setup()
from rail_async_tasks import task
@task(name="s.off")
async def off(): return 7
assert off.enqueue().result(timeout=60) == 7
print(sorted(it for it in sys.modules if it.startswith(("opentelemetry", "prometheus_client"))))
"""


@in_memory
@pytest.mark.parametrize("backend", ["thread", pytest.param("sync", marks=pytest.mark.long)])
async def test_switched_off_nothing_is_imported(configure: Configure, backend: str) -> None:
    """Neither OpenTelemetry nor prometheus_client, by a process that runs a task."""
    assert trace_by_otel(get_settings()) is None
    said = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", PROGRAM, backend], check=True, text=True,
        stdout=subprocess.PIPE, timeout=300, env={"PATH": ""},
    )  # fmt: skip
    assert said.stdout.strip() == "[]"


@in_memory
async def test_without_the_package_use_refuses(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the words that install it."""
    configure(otel_enabled=True)
    monkeypatch.setattr(tracing, "_known", None)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    for name in ("spans", "otel_library"):
        monkeypatch.delitem(sys.modules, f"rail_async_tasks.observability.{name}")
        monkeypatch.delattr(f"rail_async_tasks.observability.{name}")
    with pytest.raises(ConfigurationError, match=r'pip install "rail_async_tasks\[otel\]"'):
        trace_by_otel(get_settings())


@in_memory
async def test_without_a_provider_tasks_run_and_rows_stay_empty(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API alone makes no span."""
    monkeypatch.setattr(trace, "get_tracer", lambda *_: trace.NoOpTracer())
    monkeypatch.setattr(tracing, "_known", None)
    configure(otel_enabled=True)
    stored: list[Any] = []

    @task(name="s.none")
    async def none() -> None:
        stored.append(where_it_runs())

    assert (await final(await none.aenqueue())).status == "completed"
    assert stored == [(0, 0)]
    monkeypatch.setattr(tracing, "_known", None)
