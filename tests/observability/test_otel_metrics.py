"""OpenTelemetry's metrics: the same instruments as Prometheus', under names that turn into its."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import HistogramDataPoint
from prometheus_client.parser import text_string_to_metric_families

from rail_async_tasks import Retry, task
from rail_async_tasks.observability import instruments, otel_metrics
from rail_async_tasks.observability import metrics as prometheus
from rail_async_tasks.observability.instruments import Kind
from rail_async_tasks.runtime import observers
from tests.support.runtimes import Configure, in_memory, on_databases
from tests.support.spans import reader
from tests.support.waiting import eventually, final

Points = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus, "_metrics", None)
    monkeypatch.setattr(observers, "_known", None)
    reader()


def exported() -> dict[str, Any]:
    """What a reader gets, by the instrument's name."""
    data = reader().get_metrics_data()
    return {
        metric.name: metric
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        if scope.scope.name == "rail_async_tasks"
        for metric in scope.metrics
    }


def as_prometheus(names: dict[str, Any], task: str) -> Points:
    """The points under the names that exporters to Prometheus give them, of one task only."""
    found: Points = {}
    for it in (*instruments.COUNTERS, instruments.FINISHED, instruments.DURATION, instruments.WAIT):
        metric = names.get(it.dotted)
        for point in () if metric is None else metric.data.data_points:
            name = it.dotted.replace(".", "_")
            name += "_seconds" * (it.unit == "s") + "_total" * (it.kind is Kind.COUNTER)
            labels = frozenset((key, str(value)) for key, value in point.attributes.items())
            if ("task", task) not in labels:
                continue
            if isinstance(point, HistogramDataPoint):
                found[f"{name}_count", labels] = point.count
                found[f"{name}_sum", labels] = pytest.approx(point.sum)
            else:
                found[name, labels] = point.value
    return found


def scraped(task: str) -> Points:
    """The same from our own page."""
    text = prometheus.get_metrics().page("")[0].decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get("task") == task and not sample.name.endswith(("_bucket", "_created"))
    }


@on_databases
@pytest.mark.usefixtures("ends_cleanly")
async def test_both_outputs_count_the_same(configure: Configure, store: str) -> None:
    """Every event, its labels and its seconds; where nothing happened Prometheus alone has a 0."""
    configure(metrics_enabled=True, otel_enabled=True)

    @task(name=f"om.{store}", queue="low")
    async def twice(info: Any) -> None:
        if info.context.task.attempt == 1:
            raise Retry(delay=0)

    await final(await twice.aenqueue())
    labels = {"task": f"om.{store}", "queue": "low", "status": "completed"}
    done = ("rail_tasks_finished_total", frozenset(labels.items()))
    await eventually(lambda: scraped(f"om.{store}").get(done) == 1)
    ours, theirs = scraped(f"om.{store}"), as_prometheus(exported(), f"om.{store}")
    assert {key: value for key, value in ours.items() if value} == theirs
    assert len(theirs) == 8  # enqueued, started, retries, finished, and two histograms


@on_databases
@pytest.mark.usefixtures("ends_cleanly")
async def test_what_is_read_now_is_exported_too(configure: Configure) -> None:
    """Gauges of the process, and the depths of the table; each with its unit."""
    configure(otel_enabled=True)

    @task(name="om.wait")
    async def wait() -> None: ...

    await wait.using(delay=3600).aenqueue()
    await eventually(lambda: "rail_tasks.lease_age" in exported())
    otel_metrics.get_otel_metrics()
    found = exported()
    for it in (*instruments.NOW, *instruments.TABLE):
        if it is instruments.RUNNING:
            continue  # nothing runs
        assert found[it.dotted].unit == it.unit, it
        assert found[it.dotted].data.data_points, it
    assert not any(name.endswith(("_seconds", "_total")) for name in found)
    assert found["rail_tasks.lease_length"].data.data_points[0].value == 15


def test_a_value_is_recorded_as_it_happens() -> None:
    """An SDK takes the trace that it belongs to from the context of the call."""
    assert otel_metrics.get_otel_metrics().at_once


@in_memory
@pytest.mark.usefixtures("ends_cleanly")
async def test_a_provider_of_meters_that_raises(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Tasks run, and nothing is counted there."""

    def refuse() -> None:
        raise AttributeError("the provider has no meter")

    monkeypatch.setattr(otel_metrics, "get_otel_metrics", refuse)
    configure(otel_enabled=True)

    @task(name="otel.no_meter")
    async def returns() -> str:
        return "ran"

    assert (await final(await returns.aenqueue())).result == "ran"
    assert "count_by_otel() failed" in caplog.text
