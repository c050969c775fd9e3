"""Readings of all processes that share a folder of prometheus_client (PROMETHEUS_MULTIPROC_DIR).

There every process keeps its counters by itself. Gauges, and counts that the runtime keeps, are
written every few seconds. The values of processes that have ended are left out.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Final, TypeVar

from rail_async_tasks.observability import instruments
from rail_async_tasks.observability.instruments import Kind
from rail_async_tasks.observability.prometheus_library import multiprocess, prometheus
from rail_async_tasks.observability.readings import readings
from rail_async_tasks.safe_logging import get_logger

logger = get_logger("rail_async_tasks.metrics")

# How old, in seconds, another process's readings are at most.
WRITE_EVERY: Final = 5.0


class SharedReadings:
    """Writes this process's readings to the shared folder. From any thread."""

    def __init__(self, prefix: str) -> None:
        # Never shown: a page reads the folder.
        hidden = prometheus.CollectorRegistry()
        self._gauges: dict[str, prometheus.Gauge] = {}
        self._counters: dict[str, prometheus.Counter] = {}
        for it in instruments.NOW:
            name = f"{prefix}_{it.name}"
            if it.kind is Kind.COUNTER:
                self._counters[it.name] = prometheus.Counter(
                    name, it.text, it.labels, registry=hidden
                )
            else:
                self._gauges[it.name] = prometheus.Gauge(
                    name, it.text, it.labels, registry=hidden,
                    multiprocess_mode="livemax" if it.highest else "livesum",
                )  # fmt: skip
        self._lock = threading.Lock()
        self._shown: set[tuple[str, tuple[str, ...]]] = set()
        self._counted: dict[tuple[str, tuple[str, ...]], float] = {}
        self._failed = False

    def start(self) -> None:
        """Writes now and then, as long as the process lives."""
        threading.Thread(target=self._run, name="rail-tasks-readings", daemon=True).start()

    def _run(self) -> None:
        pause = threading.Event()
        while not pause.wait(WRITE_EVERY):
            try:
                self.write()
            except Exception:  # wrong settings, a deleted folder
                if not self._failed:
                    logger.exception("The metrics of this process cannot be written. Tried again.")
                self._failed = True
            else:
                self._failed = False

    def write(self) -> None:
        """Writes the readings as they are now; a gauge without a reading becomes 0."""
        with self._lock:
            seen = set()
            for instrument, labels, value in readings():
                key = (instrument.name, labels)
                if instrument.kind is Kind.COUNTER:
                    before = self._counted.get(key, 0.0)
                    self._counted[key] = value
                    # Less than before: another runtime of this process counts from 0.
                    more = value - before if value >= before else value
                    _at(self._counters[instrument.name], labels).inc(more)
                else:
                    seen.add(key)
                    _at(self._gauges[instrument.name], labels).set(value)
            for name, labels in self._shown - seen:
                _at(self._gauges[name], labels).set(0)
            self._shown |= seen


M = TypeVar("M", prometheus.Gauge, prometheus.Counter)


def _at(metric: M, labels: tuple[str, ...]) -> M:
    return metric.labels(*labels) if labels else metric


def forget_ended(folder: str) -> None:
    """Deletes the gauges of processes that are gone, however they ended."""
    for path in Path(folder).glob("gauge_live*_*.db"):
        pid = path.stem.rpartition("_")[2]
        if pid.isdecimal() and not _lives(int(pid)):
            multiprocess.mark_process_dead(pid, folder)  # type: ignore[no-untyped-call]


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
