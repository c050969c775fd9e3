"""Collects what is to be counted, and hands it to the counters in batches.

An attempt pays for three short tuples. What turns them into metrics and roll-ups runs once for a
thousand events: a third of the cost of counting each by itself. What shows or stores counts calls
`count_now` first, so that nothing is missing. A counter whose counts outlive the process, or that
looks at its caller, is called at each event.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Final, Protocol, TypeAlias
from weakref import WeakSet

from rail_async_tasks.conf import TaskSettings
from rail_async_tasks.forks import after_fork
from rail_async_tasks.hooks import asks_to_end
from rail_async_tasks.runtime.made import made
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.snapshot import TaskSnapshot

logger = get_logger("rail_async_tasks.observers")

# What an event is, besides the final status of an execution that has ended.
ENQUEUED: Final = "enqueued"
STARTED: Final = "started"
SLOW: Final = "slow"
RETRIED: Final = "retried"
HANDED_BACK: Final = "handed back"
DROPPED: Final = "dropped"
LOST: Final = "lost"

# Task, queue, what it is (one of the above, or a final status), when by the ledger's clock,
# seconds (of the wait for `STARTED`, of the body otherwise), and the failure with its traceback.
Failure: TypeAlias = tuple[TaskSnapshot, str | None]
Event: TypeAlias = tuple[str, str, str, datetime | None, float | None, Failure | None]

# Counting so many takes about a millisecond of the loop. What waits holds no result.
MOST_WAITING: Final = 1024


class Counter(Protocol):
    """Counts events, in any thread.

    With `at_once` it is called at each event, by several threads at a time; without, once for many
    and one call at a time.
    """

    at_once: bool

    def count(self, name: str, queue: str, events: Sequence[Event]) -> None:
        """Counts events of one task in one queue, in their order."""


class EventCounts:
    """An observer that keeps events until they are counted. See `observers.Observer`."""

    def __init__(self, counters: Iterable[Counter]) -> None:
        counters = tuple(counters)
        self._counters = tuple(it for it in counters if not it.at_once)
        self._at_once = tuple(it for it in counters if it.at_once)
        self._events: deque[Event] = deque()  # its methods are atomic
        # A counter's error may be logged by a handler that enqueues tasks, or shows counts: the
        # thread that counts is asked to count again, and then leaves it to its first call.
        self._lock = threading.RLock()
        self._is_counting = False

    def enqueued(self, snapshot: TaskSnapshot) -> None:
        self._add((snapshot.name, snapshot.queue, ENQUEUED, None, None, None))

    def started(self, snapshot: TaskSnapshot) -> None:
        at, created_at = snapshot.started_at, snapshot.created_at
        waited: float | None = None
        if snapshot.attempts == 1 and at is not None:
            waited = 0.0 if at is created_at else max((at - created_at).total_seconds(), 0.0)
        self._add((snapshot.name, snapshot.queue, STARTED, at, waited, None))

    def slow(self, snapshot: TaskSnapshot, seconds: float) -> None:
        self._add((snapshot.name, snapshot.queue, SLOW, None, None, None))

    def ended(self, snapshot: TaskSnapshot, seconds: float | None, traceback: str | None) -> None:
        what, failure = snapshot.status, None
        if snapshot.error_code is not None:
            failure = (snapshot, traceback)
        if not snapshot.is_final:
            what = HANDED_BACK if failure is None else RETRIED
        self._add((snapshot.name, snapshot.queue, what, snapshot.updated_at, seconds, failure))

    def dropped(self, snapshot: TaskSnapshot, seconds: float) -> None:
        self._add((snapshot.name, snapshot.queue, DROPPED, None, seconds, None))

    def lost(self, snapshot: TaskSnapshot) -> None:
        failure = None if snapshot.is_final else (snapshot, None)  # `ended` has the final one
        self._add((snapshot.name, snapshot.queue, LOST, snapshot.updated_at, None, failure))

    def _add(self, event: Event) -> None:
        if self._at_once:
            self._hand_over(self._at_once, event[0], event[1], (event,))
        if not self._counters:
            return
        events = self._events
        events.append(event)
        if len(events) >= MOST_WAITING and self._lock.acquire(blocking=False):
            try:
                self._count()
            finally:
                self._lock.release()

    def count_now(self) -> None:
        """Has all events counted. In any thread."""
        with self._lock:
            self._count()

    def _count(self) -> None:
        if self._is_counting:
            return
        self._is_counting = True
        try:
            for (name, queue), events in self._take().items():
                self._hand_over(self._counters, name, queue, events)
        finally:
            self._is_counting = False

    def _take(self) -> dict[tuple[str, str], list[Event]]:
        """Returns the events that wait, by task and queue."""
        take, groups = self._events.popleft, dict[tuple[str, str], list[Event]]()
        name = queue = None
        group: list[Event] = []
        for _ in range(len(self._events)):
            event = take()
            if event[0] != name or event[1] != queue:  # most are like the one before
                name, queue = event[:2]
                group = groups.setdefault((name, queue), [])
            group.append(event)
        return groups

    @staticmethod
    def _hand_over(
        counters: Iterable[Counter], name: str, queue: str, events: Sequence[Event]
    ) -> None:
        for counter in counters:
            try:
                counter.count(name, queue, events)
            except BaseException as error:
                if asks_to_end(error):
                    raise
                logger.exception("%s failed", type(counter).__name__)


Factory: TypeAlias = Callable[[TaskSettings], Counter | None]

# In the order in which they were registered.
_factories: dict[Factory, None] = {}
_lock = threading.RLock()  # a signal handler may show metrics
_all: WeakSet[EventCounts] = WeakSet()


def register(factory: Factory) -> None:
    """Has `factory` asked for a counter, from the next runtime on. Twice is once."""
    _factories[factory] = None


def observe_by_counts(settings: TaskSettings) -> EventCounts | None:
    """Returns the observer for the counters that these settings ask for; None without any."""
    count_now()  # what was added under other settings, whose observer may go
    asked = [made(factory, settings) for factory in _factories]
    counters = [counter for counter in asked if counter is not None]
    if not counters:
        return None
    counts = EventCounts(counters)
    with _lock:
        _all.add(counts)
    return counts


def count_now() -> None:
    """Has all that happened in this process counted. In any thread."""
    with _lock:
        everything = list(_all)
    for counts in everything:
        counts.count_now()


def _start_afresh() -> None:
    """A forked child has counted nothing, and its parent may have held a lock."""
    global _lock, _all
    _lock, _all = threading.RLock(), WeakSet()


after_fork(_start_afresh)
