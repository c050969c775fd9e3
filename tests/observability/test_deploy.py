"""The dashboard and the alert rules that the package brings, by Prometheus itself."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from asgiref.sync import sync_to_async

import rail_async_tasks
from rail_async_tasks import task
from rail_async_tasks.hosting import process as host
from rail_async_tasks.observability import instruments, readings
from rail_async_tasks.observability import metrics as module
from rail_async_tasks.observability.instruments import Instrument, Kind
from rail_async_tasks.runtime import observers
from tests.services.prometheus import Prometheus, program, running_prometheus
from tests.support.runtimes import Configure
from tests.support.waiting import eventually, final, until_status

DEPLOY = Path(rail_async_tasks.__file__).parent / "deploy"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
DASHBOARD = DEPLOY / "grafana" / "rail_async_tasks.json"
CASES = Path(__file__).with_name("alerts_test.yml")

RULES: list[dict[str, Any]] = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
PANELS = [it for it in json.loads(DASHBOARD.read_text())["panels"] if it["type"] != "row"]
TARGETS = [(panel["title"], target) for panel in PANELS for target in panel["targets"]]

# What the page adds to a metric's name.
SUFFIXES = {Kind.COUNTER: "_total", Kind.HISTOGRAM: "_bucket"}

# What an alert compares, without the threshold.
COMPARED = re.compile(r"(.*) (?:>|==) [\d.]+", re.DOTALL)
ABSENT = re.compile(r"absent\((.*)\)")
# As Grafana fills them in: all queues, all tasks.
VARIABLES = {"$__rate_interval": "5m", "$queue": ".*", "$task": ".*"}


# --- alerts ---------------------------------------------------------------------------------------


def test_the_rules_are_well_formed() -> None:
    """promtool reads them."""
    subprocess.run([program("promtool"), "check", "rules", ALERTS], check=True, timeout=300)


def test_each_alert_fires_and_stays_silent(tmp_path: Path) -> None:
    """On series that are wrong and on series that are well, with its words as people read them."""
    path = tmp_path / "cases.yml"
    path.write_text(CASES.read_text().replace("ALERTS", str(ALERTS)))
    done = subprocess.run(
        [program("promtool"), "test", "rules", path],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_a_case_of_each_kind() -> None:
    """Or the test above would say nothing of it."""
    fired, silent = set(), set()
    for group in yaml.safe_load(CASES.read_text())["tests"]:
        for case in group["alert_rule_test"]:
            (fired if case["exp_alerts"] else silent).add(case["alertname"])
    assert fired == silent == {rule["alert"] for rule in RULES}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_to_do(rule: dict[str, Any]) -> None:
    """A severity, what is wrong, and the remedy."""
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert rule["annotations"].keys() == {"summary", "remedy"}
    assert all(it.endswith(".") for it in rule["annotations"].values())


# --- every query, on a real scrape ----------------------------------------------------------------


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_metrics", None)
    monkeypatch.setattr(observers, "_known", None)
    monkeypatch.setattr(readings, "_table", readings._Table())


@contextmanager
def served() -> Iterator[str]:
    """Serves the metrics page; yields its host and port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            text, content_type = module.get_metrics().page(self.headers.get("Accept", ""))
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@task(name="d.well", queue="low")
async def well() -> None: ...


@task(name="d.fail", max_retries=1)
async def fail() -> None:
    raise ValueError


@task(name="d.hold")
async def hold() -> None:
    await asyncio.Event().wait()


def queries() -> Iterator[tuple[str, str, set[str]]]:
    """Yields where each query stands, the query, and the labels that its texts show."""
    for title, target in TARGETS:
        expression = target["expr"]
        for name, value in VARIABLES.items():
            expression = expression.replace(name, value)
        yield f"panel {title}", expression, set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
    for rule in RULES:
        found = COMPARED.fullmatch(rule["expr"]) or ABSENT.fullmatch(rule["expr"])
        assert found is not None, rule
        shown = re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values()))
        yield f"alert {rule['alert']}", found[1], set(shown)
    for variable in json.loads(DASHBOARD.read_text())["templating"]["list"]:
        if variable["type"] == "query":
            found = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["definition"])
            assert found is not None, variable
            yield f"variable {variable['name']}", found[1], {found[2]}


def without_answer(prometheus: Prometheus) -> list[str]:
    """The queries that have no series, or whose series lack a label that is shown."""
    missing = []
    for where, expression, labels in queries():
        series = prometheus.query(expression)
        if not series or any(labels - it["metric"].keys() for it in series):
            missing.append(f"{where}: {expression}: {[it['metric'] for it in series]}")
    return missing


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
@pytest.mark.usefixtures("fresh", "ends_cleanly")
async def test_every_query_has_an_answer(configure: Configure, tmp_path: Path) -> None:
    """Of each panel, alert and variable, with the labels that are shown; and every rule is well."""
    configure(metrics_enabled=True, retry_delay=0, slow_task_threshold_seconds=60)
    runtime = await host.aruntime()
    await eventually(lambda: runtime.holding)
    held = await hold.aenqueue()
    await until_status(held, "running")
    with served() as target, running_prometheus(target, ALERTS, tmp_path) as prometheus:
        ask = sync_to_async(prometheus.query, thread_sensitive=False)
        await eventually(sync_to_async(prometheus.answers, thread_sensitive=False))
        scraped = "count_over_time(rail_tasks_finished_total[1m]) > "
        for number in range(2):  # a rate takes two scrapes, with something between them
            for one in (well, fail):
                await final(await one.aenqueue())
            await eventually(lambda least=number: ask(f"{scraped}{least}"))  # type: ignore[misc]
        missing = sync_to_async(without_answer, thread_sensitive=False)
        found: list[str] = []

        async def all_answer() -> bool:
            found[:] = await missing(prometheus)
            return not found

        await eventually(all_answer, lambda: "\n".join(found), every=0.3)
        rules = await sync_to_async(prometheus.rules, thread_sensitive=False)()
        assert {it["name"]: (it["health"], it.get("lastError")) for it in rules} == {
            rule["alert"]: ("ok", None) for rule in RULES
        }
    await held.acancel()
    await final(held)


# --- the dashboard --------------------------------------------------------------------------------


def test_every_metric_is_on_the_dashboard() -> None:
    """Those that the page has, under the names that it gives them."""
    shown = set(re.findall(r"rail_tasks_\w+", " ".join(it["expr"] for _, it in TARGETS)))
    names = {
        f"rail_tasks_{it.name}"
        + {"counter": "_total", "histogram": "_bucket"}.get(it.kind.value, "")
        for it in vars(instruments).values()
        if isinstance(it, Instrument)
    }
    assert shown == names


def test_panels_differ_and_do_not_overlap() -> None:
    """Each has an id, a place, and a description; every query goes to the chosen source."""
    everything = json.loads(DASHBOARD.read_text())["panels"]
    assert len({it["id"] for it in everything}) == len(everything)
    taken: set[tuple[int, int]] = set()
    for panel in everything:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not taken & cells, panel["title"]
        taken |= cells
    assert all(it["description"].endswith(".") for it in PANELS)
    assert {target["datasource"]["uid"] for _, target in TARGETS} == {"${datasource}"}
