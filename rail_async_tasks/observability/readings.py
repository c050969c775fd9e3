"""Reads what this process does now, and what the table of tasks holds, as values of instruments."""

from __future__ import annotations

import threading
import time
from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Late
from typing import Final, NamedTuple

from django.db import connections

from rail_async_tasks.conf import get_settings
from rail_async_tasks.forks import after_fork
from rail_async_tasks.hosting import process as host
from rail_async_tasks.ledger.port import Ledger
from rail_async_tasks.ledger.queue_states import QueueCounts
from rail_async_tasks.observability import instruments as its
from rail_async_tasks.observability.counting import labels_of
from rail_async_tasks.observability.instruments import Instrument
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.states import Status

logger = get_logger("rail_async_tasks.metrics")

# The table is read at most once in this time, and so seldom that reading takes 2 % of the time.
TABLE_SECONDS: Final = 5.0
TABLE_SHARE: Final = 0.02
# How long a page waits for the database.
TABLE_TIMEOUT: Final = 2.0


class Reading(NamedTuple):
    """A value of an instrument, under its labels."""

    instrument: Instrument
    labels: tuple[str, ...]
    value: float


def readings() -> Iterator[Reading]:
    """Yields the values of `instruments.NOW`, without a query. From any thread."""
    runtime = host.current()
    if runtime is not None:
        paused: dict[str, bool] = {}
        for queue in runtime.slots.queues():
            label = labels_of("", queue)[1]
            paused[label] = paused.get(label, False) or queue in runtime.slots.paused
        for label, state in paused.items():
            yield Reading(its.PAUSED, (label,), state)
        attempts = [it.snapshot for it in list(runtime.attempts.values()) if not it.ended]
        counted = Tally(labels_of(it.name, it.queue) for it in attempts)
        for labels, count in counted.items():
            yield Reading(its.RUNNING, labels, count)
        yield Reading(its.LEAKED, (), runtime.slots.leaked)
        yield Reading(its.RECOVERED, (), runtime.recovered)
        yield Reading(its.LEASES_LOST, (), runtime.fences)
        yield Reading(its.LOOP_BLOCKED, (), runtime.blocked)
        yield Reading(its.LOOP_LAG, (), runtime.services.watchdog.worst_lag)
        lease = runtime.services.leasing.lease
        if lease is not None and (age := lease.age) is not None:
            yield Reading(its.LEASE_AGE, (), age)
            yield Reading(its.LEASE_LENGTH, (), lease.seconds)
    writers = host.ledger().writers()
    for writer in () if writers is None else writers.states():
        yield Reading(its.WRITER_BACKLOG, (writer.name,), writer.backlog)
        yield Reading(its.WRITER_FAILING, (writer.name,), writer.failing_for or 0)
        yield Reading(its.WRITER_BATCHES, (writer.name,), writer.batches)
        yield Reading(its.WRITER_CHANGES, (writer.name,), writer.written)
    statistics = host.bus().statistics()
    yield Reading(its.SUBSCRIBERS, (), statistics.get("subscribers", 0))
    yield Reading(its.PUBLISHED, (), statistics.get("published", 0))


def table_readings() -> list[Reading]:
    """Returns the values of `instruments.TABLE`; an empty list where the database does not answer.

    They are of all processes, and at most some seconds old. Waits at most `TABLE_TIMEOUT`.
    """
    counts = _table.counts(host.ledger())
    return [] if counts is None else list(_of_table(counts))


def _of_table(counts: Iterable[QueueCounts]) -> Iterator[Reading]:
    depths: dict[tuple[str, str], int] = defaultdict(int)
    oldest: dict[str, float] = defaultdict(float)
    for queue in get_settings().queues:
        oldest[queue] = 0.0  # an empty queue is a series too, or no alert on it would ever resolve
        for status in (Status.PENDING, Status.RUNNING, Status.RETRYING):
            depths[queue, status.value] = 0
    for it in counts:
        queue = labels_of("", it.name)[1]
        depths[queue, "pending"] += it.pending
        depths[queue, "running"] += it.running
        depths[queue, "retrying"] += it.retrying
        oldest[queue] = max(oldest[queue], it.oldest_seconds or 0.0)
    for labels, depth in depths.items():
        yield Reading(its.DEPTH, labels, depth)
    for queue, age in oldest.items():
        yield Reading(its.OLDEST, (queue,), age)


class _Table:
    """Counts the table in a thread and on a connection of its own, for all who ask meanwhile."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: Future[list[QueueCounts] | None] | None = None
        self._again_at = 0.0

    def counts(self, ledger: Ledger) -> list[QueueCounts] | None:
        with self._lock:
            asked = self._asked
            if asked is None or (asked.done() and time.monotonic() >= self._again_at):
                asked = self._asked = Future()
                threading.Thread(
                    target=self._read, args=(ledger, asked), name="rail-tasks-metrics", daemon=True
                ).start()
        try:
            return asked.result(TABLE_TIMEOUT)
        except Late:
            return None

    def _read(self, ledger: Ledger, asked: Future[list[QueueCounts] | None]) -> None:
        began = time.monotonic()
        counts = None
        try:
            counts = ledger.queue_counts()
        except Exception as error:  # noqa: BLE001 (whatever the driver raises)
            logger.warning("The metrics lack the depths of queues: the database fails: %s", error)
        finally:
            connections.close_all()
            took = time.monotonic() - began
            self._again_at = began + max(TABLE_SECONDS, took / TABLE_SHARE)
            asked.set_result(counts)


_table = _Table()


def _start_afresh() -> None:
    """A forked child has no thread that would answer, and may have copied a lock that is held."""
    global _table
    _table = _Table()


after_fork(_start_afresh)
