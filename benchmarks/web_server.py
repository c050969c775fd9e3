"""Starts the web server that is measured, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

STOP_TIMEOUT = 60.0  # seconds


@contextmanager
def serving(
    middleware: str = "none", environment: Mapping[str, str] | None = None
) -> Iterator[tuple[int, int]]:
    """`python -m benchmarks.web`; yields its process id and its port. Ends it and waits."""
    server = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.web"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "benchmarks.web_settings",
            "BENCHMARK_MIDDLEWARE": middleware,
            **(environment or {}),
        },
    )
    try:
        assert server.stdout is not None
        yield server.pid, int(server.stdout.readline())
    finally:
        server.terminate()
        server.communicate(timeout=STOP_TIMEOUT)
