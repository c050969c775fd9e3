"""The timeline of a task: what it waited and ran, attempt by attempt, to scale. Pure.

With the audit every attempt is known. Without it the row keeps the times of the last attempt and
the number of the earlier ones; the timeline then shows those as one stretch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Protocol
from uuid import UUID

from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.states import FINAL, WAITING, Status
from rail_async_tasks.text import counted, noun_for

# The width of the drawing, in its own units, and the least width of a stretch.
WIDTH: Final = 1000.0
LEAST: Final = 3.0
# Stretches that are drawn; of more, the last.
MOST: Final = 60

_PROCESS: Final = "runtime:"


class StoredEvent(Protocol):
    """A row of the audit, as far as a timeline reads it."""

    @property
    def seq(self) -> int: ...
    @property
    def to_status(self) -> str: ...
    @property
    def attempt(self) -> int: ...
    @property
    def at(self) -> datetime: ...
    @property
    def actor(self) -> str | None: ...
    @property
    def reason(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Stretch:
    """A time in which a task waited or ran.

    Attributes:
        kind: `waited`, `ran` or `earlier` (attempts that only their number is known of).
        end: None while it goes on.
        outcome: how a run ended: a state, or `retried`, `handed back`, `lost`.
        process: the host and process id, or the id of a process whose row is gone.
        x, width: the place in a drawing of `WIDTH` units.
    """

    kind: str
    label: str
    start: datetime
    end: datetime | None
    attempt: int = 0
    outcome: str = ""
    process: str = ""
    seconds: float = 0.0
    x: float = 0.0
    width: float = 0.0


@dataclass(frozen=True, slots=True)
class Timeline:
    """The stretches of a task, oldest first.

    Attributes:
        complete: every attempt is known, by the audit or because there was but one.
        omitted: the number of older stretches that are left out.
    """

    stretches: Sequence[Stretch]
    seconds: float
    complete: bool
    omitted: int = 0

    @property
    def ticks(self) -> list[float]:
        """Returns the seconds at the ends and the quarters of the drawing."""
        return [self.seconds * quarter / 4 for quarter in range(5)]


def timeline_of(
    task: TaskSnapshot,
    events: Sequence[StoredEvent],
    places: Mapping[UUID, str],
    now: datetime,
    holder: UUID | None = None,
) -> Timeline:
    """Returns the timeline.

    Args:
        events: the task's rows of the audit, by `seq`; times in UTC.
        places: host and process id of the processes that are known.
        now: by the ledger's clock; what goes on is drawn until then.
        holder: the process that holds the task.
    """
    if _cover(task, events):
        stretches, complete = _of_events(events, places), True
    else:
        stretches, complete = _of_row(task, places, holder), task.attempts <= 1
    return _drawn(stretches, now, complete=complete)


def process_of(actor: str | None) -> UUID | None:
    """Returns the process that an event of the audit names as its actor."""
    if actor is None or not actor.startswith(_PROCESS):
        return None
    try:
        return UUID(actor.removeprefix(_PROCESS))
    except ValueError:
        return None


def _cover(task: TaskSnapshot, events: Sequence[StoredEvent]) -> bool:
    """Returns whether the audit has each state of the task: it may have been on for a part."""
    changes = [it.seq for it in events if it.reason != "cancel_requested"]
    return changes == list(range(1, task.seq + 1))


# --- with the audit -------------------------------------------------------------------------------


def _of_events(events: Sequence[StoredEvent], places: Mapping[UUID, str]) -> list[Stretch]:
    found: list[Stretch] = []
    process = ""
    for event in events:
        if event.reason == "cancel_requested":
            continue
        if found:
            last = found[-1]
            outcome = _outcome(event) if last.kind == "ran" else ""
            found[-1] = replace(last, end=event.at, outcome=outcome)
        if event.to_status == Status.RUNNING:
            runtime = process_of(event.actor)
            process = "" if runtime is None else places.get(runtime, str(runtime))
            label = f"Attempt {event.attempt}"
            found.append(
                Stretch("ran", label, event.at, None, attempt=event.attempt, process=process)
            )
        elif event.to_status in WAITING:
            found.append(Stretch("waited", "Waited", event.at, None))
    return found


def _outcome(event: StoredEvent) -> str:
    named = {"retrying": "retried", "handed_back": "handed back"}
    if event.reason == "worker_lost" and event.to_status == Status.RETRYING:
        return "lost"
    return named.get(event.reason, event.to_status)


# --- without --------------------------------------------------------------------------------------


def _of_row(task: TaskSnapshot, places: Mapping[UUID, str], holder: UUID | None) -> list[Stretch]:
    started, is_final = task.started_at, task.status in FINAL
    if started is None:
        return [Stretch("waited", "Waited", task.created_at, task.completed_at)]
    process = "" if holder is None else places.get(holder, str(holder))
    if task.attempts <= 1:
        before = Stretch("waited", "Waited", task.created_at, started)
    else:
        before = Stretch("earlier", earlier(task), task.created_at, started)
    end = task.completed_at if is_final else None
    outcome = str(task.status) if is_final else ""
    if task.status in WAITING:
        # A waiting row changes no more, so that this is when its last attempt ended.
        end, outcome = task.updated_at, "retried"
    label = f"Attempt {task.attempts}"
    ran = Stretch(
        "ran", label, started, end, attempt=task.attempts, outcome=outcome, process=process
    )
    if task.status in WAITING:
        return [before, ran, Stretch("waited", "Waited", task.updated_at, None)]
    return [before, ran]


def earlier(task: TaskSnapshot) -> str:
    """Returns how many attempts there were before the last."""
    number = max(task.attempts - 1, 0)
    return f"{counted(number, 'earlier attempt')} and {noun_for(number, 'its', 'their')} waits"


# --- the drawing ----------------------------------------------------------------------------------


def _drawn(stretches: Sequence[Stretch], now: datetime, *, complete: bool) -> Timeline:
    kept = stretches[-MOST:]
    if not kept:
        return Timeline((), 0.0, complete)
    first = kept[0].start
    last = max(it.end or now for it in kept)
    total = max((last - first).total_seconds(), 0.001)
    drawn = [_placed(it, first, now, total) for it in kept]
    return Timeline(drawn, total, complete, omitted=len(stretches) - len(kept))


def _placed(it: Stretch, first: datetime, now: datetime, total: float) -> Stretch:
    seconds = max(((it.end or now) - it.start).total_seconds(), 0.0)
    left = max((it.start - first).total_seconds(), 0.0)
    width = min(max(seconds / total * WIDTH, LEAST), WIDTH)
    x = min(left / total * WIDTH, WIDTH - width)
    return replace(it, seconds=seconds, x=round(x, 2), width=round(width, 2))
