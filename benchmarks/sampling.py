"""Takes one sample: a fresh process, a fresh database, an empty Redis."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.databases import Databases
from benchmarks.environment import ROOT, child_environment, peer_environment
from benchmarks.figures import Metrics

# Seconds that one sample may take; past them it hangs, and the run ends with an error.
TOO_LONG = 900


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The order to the process that takes a sample.

    Args:
        function: `module:function`; takes the parameters by name and returns its metrics.
        own_warm_up: the function warms up by itself; without it the process calls it twice, the
            first time with a tenth of `count`.
        python: the interpreter of a peer's environment; None: the project's own.
    """

    function: str
    parameters: Mapping[str, Any]
    loop: str = "uvloop"
    database: str | None = None
    redis: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    own_warm_up: bool = False
    python: Path | None = None
    too_long: float = TOO_LONG


def take(sample: Sample, databases: Databases) -> Metrics:
    """Returns the metrics. Raises SubprocessError where it fails or takes too long."""
    spec = {
        "function": sample.function,
        "parameters": sample.parameters,
        "loop": sample.loop,
        "own_warm_up": sample.own_warm_up,
    }
    settings = {"BENCHMARK_TASK_SETTINGS": json.dumps(dict(sample.settings))}
    environment = peer_environment if sample.python else child_environment
    with databases.fresh(sample.database) as database, databases.redis(sample.redis) as redis:
        output = _output(
            [str(sample.python or sys.executable), "-m", "benchmarks.child"],
            json.dumps(spec),
            environment(database, redis, settings),
            sample.too_long,
        )
    metrics: Metrics = json.loads(output.splitlines()[-1])
    return metrics


def _output(command: list[str], text: str, environment: dict[str, str], too_long: float) -> str:
    """What the process prints. Where it fails, the workers that it has started end with it."""
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment,
        start_new_session=True,
    ) as child:
        try:
            output, _ = child.communicate(text, timeout=too_long)
        except BaseException:
            os.killpg(child.pid, signal.SIGKILL)
            raise
    if child.returncode:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        raise subprocess.CalledProcessError(child.returncode, command)
    return output
