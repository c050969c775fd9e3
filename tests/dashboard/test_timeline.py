"""The timeline of a task: by the audit, and by the row alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from rail_async_tasks.dashboard.timeline import LEAST, MOST, WIDTH, Timeline, timeline_of
from rail_async_tasks.ids import new_id
from rail_async_tasks.snapshot import TaskSnapshot

START = datetime(2026, 1, 16, 12, tzinfo=UTC)
WEB, WORKER = UUID(int=7), UUID(int=8)
PLACES = {WEB: "web-1 4711"}


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


@dataclass
class Event:
    """A row of the audit."""

    seq: int
    from_status: str | None
    to_status: str
    attempt: int
    at: datetime
    actor: str | None
    reason: str


def task(status: str = "completed", **fields: Any) -> TaskSnapshot:
    values = {"created_at": START, "updated_at": START, "name": "t", "queue": "default", **fields}
    return TaskSnapshot(id=new_id(), status=status, **values)


def parts(timeline: Timeline) -> list[tuple[str, str, float, str, str]]:
    return [(it.kind, it.label, it.seconds, it.outcome, it.process) for it in timeline.stretches]


EVENTS = [
    Event(1, None, "pending", 0, at(0), "7", "created"),
    Event(2, "pending", "running", 1, at(2), f"runtime:{WEB}", "claimed"),
    Event(3, "running", "retrying", 1, at(5), "runtime", "retrying"),
    Event(4, "retrying", "running", 2, at(6), f"runtime:{WEB}", "claimed"),
    Event(5, "running", "retrying", 2, at(10), "runtime", "handed_back"),
    Event(6, "retrying", "running", 3, at(11), f"runtime:{WORKER}", "claimed"),
    Event(7, "running", "retrying", 3, at(15), "recovery", "worker_lost"),
    Event(8, "retrying", "running", 4, at(16), f"runtime:{WEB}", "claimed"),
    Event(8, "running", "running", 4, at(18), "7", "cancel_requested"),
    Event(9, "running", "cancelled", 4, at(20), "runtime", "cancelled"),
]


def test_with_the_audit_every_attempt_is_shown() -> None:
    """Waited and ran in turn, how each run ended, and in which process."""
    found = timeline_of(task("cancelled", seq=9, attempts=4), EVENTS, PLACES, at(99))
    assert found.complete
    assert parts(found) == [
        ("waited", "Waited", 2, "", ""),
        ("ran", "Attempt 1", 3, "retried", "web-1 4711"),
        ("waited", "Waited", 1, "", ""),
        ("ran", "Attempt 2", 4, "handed back", "web-1 4711"),
        ("waited", "Waited", 1, "", ""),
        ("ran", "Attempt 3", 4, "lost", str(WORKER)),
        ("waited", "Waited", 1, "", ""),
        ("ran", "Attempt 4", 4, "cancelled", "web-1 4711"),
    ]
    assert found.seconds == 20


def test_durations_are_drawn_to_scale() -> None:
    """Each stretch begins where the one before ends; a short one is still seen."""
    found = timeline_of(task("cancelled", seq=9, attempts=4), EVENTS, PLACES, at(99))
    assert [(it.x, it.width) for it in found.stretches][:3] == [(0, 100), (100, 150), (250, 50)]
    last = found.stretches[-1]
    assert last.x + last.width == WIDTH
    short = task(attempts=1, started_at=at(1000), completed_at=at(1000.001))
    ran = timeline_of(short, [], {}, at(2000)).stretches[-1]
    assert (ran.width, ran.x) == (LEAST, WIDTH - LEAST)


def test_without_the_audit_the_earlier_attempts_are_one_stretch() -> None:
    """Their number is in the row; when each began and ended is not."""
    row = task("failed", seq=6, attempts=3, retry_count=2, started_at=at(8), completed_at=at(10))
    found = timeline_of(row, [], PLACES, at(99), WEB)
    assert not found.complete
    assert parts(found) == [
        ("earlier", "2 earlier attempts and their waits", 8, "", ""),
        ("ran", "Attempt 3", 2, "failed", "web-1 4711"),
    ]


def test_one_attempt_is_known_without_the_audit() -> None:
    """The row has all its times."""
    row = task(seq=3, attempts=1, started_at=at(1), completed_at=at(4))
    found = timeline_of(row, [], {}, at(99))
    assert found.complete
    assert parts(found) == [
        ("waited", "Waited", 1, "", ""),
        ("ran", "Attempt 1", 3, "completed", ""),
    ]


def test_what_goes_on_is_drawn_until_now() -> None:
    """A waiting task waits, a running one runs, a retrying one has run and waits."""
    assert parts(timeline_of(task("pending"), [], {}, at(5))) == [("waited", "Waited", 5, "", "")]
    running = task("running", seq=2, attempts=1, started_at=at(1))
    assert parts(timeline_of(running, [], {}, at(5)))[1] == ("ran", "Attempt 1", 4, "", "")
    retrying = task("retrying", seq=3, attempts=1, started_at=at(1), updated_at=at(3))
    assert parts(timeline_of(retrying, [], {}, at(5)))[1:] == [
        ("ran", "Attempt 1", 2, "retried", ""), ("waited", "Waited", 2, "", ""),
    ]  # fmt: skip
    live = timeline_of(task("running", seq=2, attempts=1, started_at=at(2)), EVENTS[:2], {}, at(5))
    assert [it.end for it in live.stretches] == [at(2), None]


def test_an_audit_with_holes_is_not_drawn() -> None:
    """It may have been switched on later, or its oldest rows deleted."""
    row = task("cancelled", seq=9, attempts=4, started_at=at(16), completed_at=at(20))
    for part in (EVENTS[2:], EVENTS[:-1], EVENTS[:3] + EVENTS[4:]):
        assert timeline_of(row, part, {}, at(99)).stretches[0].kind == "earlier"


def test_a_task_that_never_ran_has_waited() -> None:
    """Until it was cancelled, or until now."""
    row = task("cancelled", seq=2, completed_at=at(3))
    assert parts(timeline_of(row, [], {}, at(99))) == [("waited", "Waited", 3, "", "")]


def test_a_hundred_attempts_make_no_endless_page() -> None:
    """The last ones are drawn, and the others counted."""
    events = [Event(1, None, "pending", 0, at(0), "7", "created")]
    for n in range(1, 200, 2):
        events.append(Event(n + 1, "retrying", "running", n, at(n), None, "claimed"))
        events.append(Event(n + 2, "running", "retrying", n, at(n + 1), None, "retrying"))
    found = timeline_of(task("retrying", seq=len(events)), events, {}, at(300))
    assert len(found.stretches) == MOST
    assert found.omitted == len(events) - MOST


def test_a_clock_that_stepped_back_draws_nothing_outside() -> None:
    """Times are of the ledger's clock, which may be set."""
    row = task(attempts=1, started_at=at(-5), completed_at=at(-9))
    for it in timeline_of(row, [], {}, at(0)).stretches:
        assert 0 <= it.x <= WIDTH
        assert 0 < it.width <= WIDTH - it.x
