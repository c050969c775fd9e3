"""`docs/telemetry.md`, followed to the letter: what its traces, log lines and Sentry events say."""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.pages import ROOT, read
from tests.support.reader import Reader
from tests.support.reader_python import interpreter

PAGE = ROOT / "docs" / "telemetry.md"
CARD = "4111 1111 1111 1111"


@pytest.fixture(scope="module")
def posted() -> Iterator[tuple[str, list[bytes]]]:
    """A server in Sentry's place: its DSN, and the envelopes that it got."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers["Content-Encoding"] == "gzip":
                body = gzip.decompress(body)
            bodies.append(body)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://key@127.0.0.1:{server.server_port}/1", bodies
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def folder(posted: tuple[str, list[bytes]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project after the last block."""
    folder = tmp_path_factory.mktemp("telemetry") / "project"
    folder.mkdir()
    with Reader(folder, interpreter(), {"SENTRY_DSN": posted[0]}) as reader:
        reader.follow(read(PAGE))
        reader.leave_console()
        reader.check()
    return folder


def objects(text: str) -> list[Any]:
    """The JSON objects of a text that has nothing else in it."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while at < len(text.rstrip()):
        value, at = decoder.raw_decode(text, at)
        found.append(value)
        at += len(text[at:]) - len(text[at:].lstrip())
    return found


def test_the_trace_reaches_the_body(folder: Path) -> None:
    """The span of the page's own code, the start below it, the attempt below that; and metrics."""
    found = objects((folder / "telemetry.log").read_text())
    spans = {it["name"]: it for it in found if "context" in it and "resource" in it}
    nightly = next(it for it in found if it.get("name") == "nightly")
    trace = [
        it
        for it in found
        if it.get("context", {}).get("trace_id") == nightly["context"]["trace_id"]
    ]
    by_name = {it["name"]: it for it in trace}
    assert by_name.keys() == {"nightly", "send default", "process default"}
    assert by_name["send default"]["parent_id"] == nightly["context"]["span_id"]
    assert by_name["process default"]["parent_id"] == by_name["send default"]["context"]["span_id"]
    assert spans["nightly"]["resource"]["attributes"]["service.name"] == "shop"
    assert any("resource_metrics" in it for it in found)
    assert "rail_tasks.duration" in (folder / "telemetry.log").read_text()
    assert CARD not in (folder / "telemetry.log").read_text()


@pytest.mark.parametrize("name", ["shop.log", "structured.log"])
def test_every_line_of_the_body_names_its_task(folder: Path, name: str) -> None:
    """Twice, as there were two attempts, with the trace; and the failure's own line."""
    lines = [json.loads(line) for line in (folder / name).read_text().splitlines()]
    message = "message" if name == "shop.log" else "event"
    charging = [it for it in lines if it[message] == "Charging"]
    assert [it["attempt"] for it in charging][:2] == [1, 2]
    for line in charging:
        assert line["task_name"] == "charge"
        assert line["queue"] == "default"
        assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f-]{27}", line["task_id"])
        assert re.fullmatch(r"[0-9a-f]{32}", line["trace_id"])
        assert line["level"] in {"INFO", "info"}
        assert "owner_id" not in line
    assert len({it["trace_id"] for it in charging[:2]}) == 1
    (failed, *_) = [it for it in lines if "Task charge" in it[message] and "failed" in it[message]]
    assert failed["logger"] == "rail_async_tasks.failures"


def test_sentry_gets_one_event_of_the_failed_task(
    folder: Path, posted: tuple[str, list[bytes]]
) -> None:
    """With the task's tags, of its second attempt; and no value of its argument anywhere."""
    everything = b"".join(posted[1])
    items = [json.loads(line) for body in posted[1] for line in body.splitlines() if line]
    (event,) = [it for it in items if "exception" in it]
    tags = event["tags"]
    assert (tags["task_name"], tags["queue"], tags["attempt"]) == ("charge", "default", "2")
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f-]{27}", tags["task_id"])
    assert event["exception"]["values"][-1]["type"] == "ConnectionError"
    assert event["transaction"] == "charge"
    assert CARD.encode() not in everything


def test_the_files_of_the_package_are_found(folder: Path) -> None:
    """Where the page's command copies them to."""
    assert json.loads((folder / "rail_async_tasks.json").read_text())["uid"] == "rail-async-tasks"
    assert "TasksWaitTooLong" in (folder / "alerts.yml").read_text()
    assert "rail_tasks_enqueued_total" in PAGE.read_text()
