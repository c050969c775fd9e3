"""A Prometheus server that scrapes one address, and promtool: Debian's, as they are installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from devservers.process import ROOT, free_port
from tests.support.needs import unavailable
from tests.support.waiting import TIMEOUT

UNPACKED = ROOT / ".venv" / "prometheus" / "usr" / "bin"


def program(name: str) -> str:
    """Returns the path of `prometheus` or `promtool`; skips the test where there is none."""
    path = os.pathsep.join((str(UNPACKED), os.environ["PATH"]))
    found = shutil.which(name, path=path)
    if found is None:
        unavailable(f"No {name}: run scripts/set-up-prometheus, or install prometheus.")
    return found


class Prometheus:
    """A running server."""

    def __init__(self, port: int) -> None:
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=TIMEOUT)

    def answers(self) -> bool:
        try:
            return self._client.get("/status/buildinfo").status_code == 200
        except httpx.TransportError:
            return False

    def close(self) -> None:
        self._client.close()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Returns the series of an instant query. Raises AssertionError if it is refused."""
        answer = self._client.get("/query", params={"query": expression}).json()
        assert answer["status"] == "success", (expression, answer)
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def rules(self) -> list[dict[str, Any]]:
        """Returns the state of each alert rule."""
        groups = self._client.get("/rules").json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]


@contextmanager
def running_prometheus(target: str, rules: Path, folder: Path) -> Iterator[Prometheus]:
    """Starts a server that scrapes `target` twice a second, and stops it at the end."""
    config = {
        "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms",
                   "evaluation_interval": "500ms"},
        "rule_files": [str(rules)],
        "scrape_configs": [{"job_name": "tasks", "metrics_path": "/tasks/metrics",
                            "static_configs": [{"targets": [target]}]}],
    }  # fmt: skip
    path = folder / "prometheus.yml"
    path.write_text(json.dumps(config))  # JSON is YAML
    port = free_port()
    argv = [
        program("prometheus"), f"--config.file={path}", f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn",
    ]  # fmt: skip
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log)
    server = Prometheus(port)
    try:
        yield server
    finally:
        server.close()
        process.terminate()
        process.wait(TIMEOUT)
