"""Events are counted in batches: each once, from any thread, whatever a counter raises."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from rail_async_tasks.ids import new_id
from rail_async_tasks.observability.instruments import BUCKETS
from rail_async_tasks.observability.prometheus_library import observe_all
from rail_async_tasks.rollups.columns import COUNTS
from rail_async_tasks.runtime import event_counts
from rail_async_tasks.runtime.event_counts import MOST_WAITING, Event, EventCounts
from rail_async_tasks.runtime.rollups import RollupCounter
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.states import Status

CREATED = datetime(2026, 1, 1, tzinfo=UTC)


class Seen:
    """A counter that keeps what it was given."""

    def __init__(self, *, at_once: bool = False) -> None:
        self.at_once = at_once
        self.events: list[Event] = []
        self.calls = 0

    def count(self, name: str, queue: str, events: Sequence[Event]) -> None:
        assert {event[:2] for event in events} == {(name, queue)}
        self.calls += 1
        self.events += events


def snapshot(**fields: Any) -> TaskSnapshot:
    values: dict[str, Any] = {
        "id": new_id(), "name": "t", "status": Status.PENDING, "queue": "default",
        "created_at": CREATED, "updated_at": CREATED, "attempts": 1,
    }  # fmt: skip
    return TaskSnapshot(**(values | fields))


def test_what_is_kept_of_an_event() -> None:
    """Names, times and failures; no result, which may be large."""
    seen = Seen()
    counts = EventCounts([seen])
    started_at = CREATED + timedelta(seconds=2)
    failed = snapshot(status=Status.FAILED, error_code="ERROR")
    counts.enqueued(snapshot())
    counts.started(snapshot(started_at=started_at))
    counts.started(snapshot(started_at=started_at, attempts=2))
    counts.started(snapshot(started_at=CREATED - timedelta(seconds=1)))
    counts.slow(snapshot(), 3.0)
    counts.ended(snapshot(status=Status.COMPLETED, result="r" * 100), 0.5, None)
    counts.ended(failed, 0.25, "traceback")
    counts.ended(snapshot(status=Status.RETRYING, error_code="ERROR"), 0.1, None)
    counts.ended(snapshot(status=Status.RETRYING), 0.1, None)
    counts.dropped(snapshot(), 0.75)
    counts.lost(snapshot())
    assert seen.events == []
    counts.count_now()
    assert [it[2:5] for it in seen.events] == [
        ("enqueued", None, None),
        ("started", started_at, 2.0),
        ("started", started_at, None),  # the first attempt's wait is counted alone
        ("started", CREATED - timedelta(seconds=1), 0.0),
        ("slow", None, None),
        ("completed", CREATED, 0.5),
        ("failed", CREATED, 0.25),
        ("retried", CREATED, 0.1),
        ("handed back", CREATED, 0.1),
        ("dropped", None, 0.75),
        ("lost", CREATED, None),
    ]
    assert seen.events[6][5] == (failed, "traceback")
    assert seen.events[5][5] is None
    counts.count_now()
    assert len(seen.events) == 11


def test_many_are_counted_without_being_asked_for() -> None:
    """What waits is bounded: it is counted as soon as there are so many."""
    seen = Seen()
    counts = EventCounts([seen])
    for _ in range(MOST_WAITING - 1):
        counts.enqueued(snapshot())
    assert seen.events == []
    counts.enqueued(snapshot())
    assert (len(seen.events), seen.calls) == (MOST_WAITING, 1)


def test_a_counter_may_see_each_event_as_it_happens() -> None:
    """One whose counts outlive the process; others still get theirs in batches."""
    first, later = Seen(at_once=True), Seen()
    counts = EventCounts([first, later])
    counts.enqueued(snapshot())
    assert (len(first.events), len(later.events)) == (1, 0)
    counts.count_now()
    assert (len(first.events), len(later.events)) == (1, 1)
    alone = EventCounts([first])
    for _ in range(3):
        alone.enqueued(snapshot())
    assert len(first.events) == 4
    assert not alone._events


def test_events_of_many_threads_are_counted_once() -> None:
    """While others read: none is lost and none counted twice."""
    seen = Seen()
    counts = EventCounts([seen])
    done = threading.Event()

    def add(number: int) -> None:
        for _ in range(3000):
            counts.enqueued(snapshot(name=f"t{number}"))

    def read() -> None:
        while not done.is_set():
            counts.count_now()

    readers = [threading.Thread(target=read) for _ in range(2)]
    writers = [threading.Thread(target=add, args=(number,)) for number in range(4)]
    for thread in (*readers, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    for thread in readers:
        thread.join()
    counts.count_now()
    assert Counter(it[0] for it in seen.events) == {f"t{number}": 3000 for number in range(4)}


class Broken:
    at_once = False

    def count(self, name: str, queue: str, events: Sequence[Event]) -> None:
        raise SystemExit("a counter's own")


def test_a_counter_that_raises_keeps_nothing_from_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is logged, and neither the event's origin nor another counter notices."""
    seen = Seen()
    counts = EventCounts([Broken(), seen])
    for _ in range(MOST_WAITING):
        counts.enqueued(snapshot())
    assert len(seen.events) == MOST_WAITING
    assert [it.getMessage() for it in caplog.records] == ["Broken failed"]


def test_a_log_handler_may_start_tasks() -> None:
    """It is called by the thread that counts, and adds events in the middle of it."""
    seen = Seen()
    counts = EventCounts([Broken(), seen])
    handled: list[logging.LogRecord] = []

    class Starts(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if not handled:
                handled.append(record)
                for _ in range(MOST_WAITING):
                    counts.started(snapshot())
                counts.count_now()

    handler, logger = Starts(), logging.getLogger("rail_async_tasks.observers")
    logger.addHandler(handler)
    try:
        counts.enqueued(snapshot())
        counting = threading.Thread(target=counts.count_now, daemon=True)
        counting.start()
        counting.join(30)
        assert not counting.is_alive(), "The handler and the counter wait for each other."
    finally:
        logger.removeHandler(handler)
    counts.count_now()
    assert Counter(it[2] for it in seen.events) == {"started": MOST_WAITING, "enqueued": 1}


def test_what_happened_before_the_writer_is_not_counted() -> None:
    """And what happened before its end is, although it had not been counted yet."""
    counter = RollupCounter()
    counts = EventCounts([counter])
    event_counts._all.add(counts)
    ended = snapshot(status=Status.COMPLETED)
    counts.ended(ended, 1.0, None)
    counter.open()
    for _ in range(3):
        counts.ended(ended, 1.0, None)
    counter.close()
    counts.ended(ended, 1.0, None)
    (counted,) = counter.take().tasks
    assert counted.counts[0] == 3


@pytest.mark.parametrize(
    ("status", "counted"), [(Status.RETRYING, {"retried": 1}), (Status.FAILED, {"failed": 1})]
)
def test_an_attempt_that_was_lost_is_an_error(status: Status, counted: dict[str, int]) -> None:
    """Whether another one follows or not, and once."""
    counter = RollupCounter()
    counter.open()
    counts = EventCounts([counter])
    code = "worker_lost" if status == Status.FAILED else None
    lost = snapshot(status=status, error_code=code)
    counts.lost(lost)
    if lost.is_final:
        counts.ended(lost, None, None)
    counts.count_now()
    batch = counter.take()
    (task,), (error,) = batch.tasks, batch.errors
    named = dict(zip(COUNTS, task.counts, strict=True))
    assert {key: it for key, it in named.items() if it} == counted
    assert error.error == "worker_lost"
    assert {"failed": error.failed, "retried": error.retried} == {
        "failed": 0,
        "retried": 0,
    } | counted


@given(st.lists(st.floats(0, 10_000) | st.sampled_from(BUCKETS), max_size=40))
def test_a_histogram_takes_many_as_it_takes_each(seconds: list[float]) -> None:
    """Buckets, count and sum are those of the library's own call."""
    pages = []
    for at_once in (True, False):
        registry = CollectorRegistry()
        histogram = Histogram("h", "H", ("a",), registry=registry, buckets=BUCKETS).labels("x")
        if at_once:
            observe_all(histogram, seconds)
        else:
            for value in seconds:
                histogram.observe(value)
        pages.append(
            {
                line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
                for line in generate_latest(registry).decode().splitlines()
                if not line.startswith("#") and "created" not in line
            }
        )
    assert pages[0] == pytest.approx(pages[1])
