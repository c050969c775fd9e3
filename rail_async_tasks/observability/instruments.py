"""The instruments: what is measured, under which name. The same for Prometheus and OpenTelemetry.

A gauge or counter of `NOW` is read when it is asked for, the others count events.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

LABELS: Final = ("task", "queue")

# A task may be a no-op or an hour's work; a wait is a commit or a day in the low queue. Seconds.
BUCKETS: Final = (0.001, 0.005, 0.025, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600)

SECONDS: Final = "s"


class Kind(Enum):
    COUNTER = "counter"
    HISTOGRAM = "histogram"
    GAUGE = "gauge"


class Instrument(NamedTuple):
    """One metric.

    Attributes:
        name: Prometheus' name without prefix and `_total`; a unit of seconds is its last word.
        unit: OpenTelemetry's; "" is a plain number.
        highest: of several processes the highest value counts, not the sum.
    """

    name: str
    kind: Kind
    text: str
    labels: tuple[str, ...] = ()
    unit: str = ""
    highest: bool = False

    @property
    def dotted(self) -> str:
        """Returns OpenTelemetry's name, which an exporter to Prometheus turns into Prometheus'."""
        name = self.name.removesuffix("_seconds") if self.unit == SECONDS else self.name
        return f"rail_tasks.{name}"


def _counter(name: str, text: str, *more: str) -> Instrument:
    return Instrument(name, Kind.COUNTER, text, (*LABELS, *more), "{task}")


def _histogram(name: str, text: str) -> Instrument:
    return Instrument(name, Kind.HISTOGRAM, text, LABELS, SECONDS)


# --- events ---------------------------------------------------------------------------------------

ENQUEUED: Final = _counter("enqueued", "Tasks that were started here.")
STARTED: Final = _counter("started", "Attempts that have begun here.")
FINISHED: Final = _counter(
    "finished", "Tasks that have come to their end here, by their status.", "status"
)
RETRIES: Final = _counter("retries", "Attempts that ended with a retry to come.")
HANDED_BACK: Final = _counter(
    "handed_back", "Attempts that were ended by a shutdown, and go on elsewhere."
)
CRASHES: Final = _counter("crashes", "Attempts that were lost with their process.")
SLOW: Final = _counter("slow", "Attempts over slow_task_threshold_seconds.")
DROPPED: Final = _counter(
    "dropped", "Attempts whose outcome was not stored: the task was no longer theirs."
)
DURATION: Final = _histogram("duration_seconds", "How long an attempt's body took.")
WAIT: Final = _histogram(
    "queue_wait_seconds",
    "From a task's creation to its first attempt; a delay that was asked for counts.",
)

COUNTERS: Final = (ENQUEUED, STARTED, RETRIES, HANDED_BACK, CRASHES, SLOW, DROPPED)

# --- this process, now ----------------------------------------------------------------------------

RUNNING: Final = Instrument("running", Kind.GAUGE, "Bodies that run now.", LABELS, "{task}")
LEAKED: Final = Instrument(
    "leaked", Kind.GAUGE, "Bodies that were given up, and still have not ended.", unit="{task}"
)
RECOVERED: Final = Instrument(
    "recovered", Kind.COUNTER, "Tasks that were taken over from processes that are gone.",
    unit="{task}",
)  # fmt: skip
LEASES_LOST: Final = Instrument(
    "leases_lost", Kind.COUNTER, "How often this process could not prove in time that it lives."
)
LEASE_AGE: Final = Instrument(
    "lease_age_seconds", Kind.GAUGE, "Since the last renewal of this process's lease.",
    unit=SECONDS, highest=True,
)  # fmt: skip
LEASE_LENGTH: Final = Instrument(
    "lease_length_seconds", Kind.GAUGE, "The setting lease_seconds.", unit=SECONDS, highest=True
)
LOOP_BLOCKED: Final = Instrument(
    "loop_blocked", Kind.COUNTER, "How often something held the event loop for over a second."
)
LOOP_LAG: Final = Instrument(
    "loop_lag_seconds", Kind.GAUGE, "How late the event loop was at most in the last 15 to 30 s.",
    unit=SECONDS, highest=True,
)  # fmt: skip
PAUSED: Final = Instrument(
    "queue_paused", Kind.GAUGE, "1 while nothing of the queue starts.", ("queue",), highest=True
)
WRITER_BACKLOG: Final = Instrument(
    "writer_backlog", Kind.GAUGE, "Changes that wait for their commit.", ("writer",)
)
WRITER_FAILING: Final = Instrument(
    "writer_failing_seconds", Kind.GAUGE, "For how long nothing could be written.", ("writer",),
    SECONDS, highest=True,
)  # fmt: skip
WRITER_BATCHES: Final = Instrument(
    "writer_batches", Kind.COUNTER, "Batches that were committed.", ("writer",)
)
WRITER_CHANGES: Final = Instrument(
    "writer_changes", Kind.COUNTER, "Changes in those batches.", ("writer",)
)
SUBSCRIBERS: Final = Instrument("bus_subscribers", Kind.GAUGE, "Watchers in this process.")
PUBLISHED: Final = Instrument("bus_published", Kind.COUNTER, "Snapshots that were published.")

NOW: Final = (
    RUNNING, LEAKED, RECOVERED, LEASES_LOST, LEASE_AGE, LEASE_LENGTH, LOOP_BLOCKED, LOOP_LAG,
    PAUSED, WRITER_BACKLOG, WRITER_FAILING, WRITER_BATCHES, WRITER_CHANGES, SUBSCRIBERS, PUBLISHED,
)  # fmt: skip

# --- the table, which all processes share ---------------------------------------------------------

DEPTH: Final = Instrument(
    "queue_depth", Kind.GAUGE, "Unfinished tasks of the whole table, by queue and status.",
    ("queue", "status"), "{task}", highest=True,
)  # fmt: skip
OLDEST: Final = Instrument(
    "queue_oldest_seconds", Kind.GAUGE, "Age of the oldest pending task that is due; 0 without.",
    ("queue",), SECONDS, highest=True,
)  # fmt: skip

TABLE: Final = (DEPTH, OLDEST)
