"""Announcements of state changes: to the bus, to observers, to the failure callback."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from rail_async_tasks.conf import TaskSettings
from rail_async_tasks.runtime.announce import Announcer, announcer_for
from rail_async_tasks.runtime.failure_log import FailureLog
from rail_async_tasks.runtime.observers import Observers
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.states import Status
from tests.runtime.core import Core, RecordingBus
from tests.support.clock import FakeClock
from tests.support.recorder import Recorder


@pytest.fixture
async def core(clock: FakeClock) -> Core:
    return Core(clock)


@pytest.fixture
async def snapshot(core: Core) -> TaskSnapshot:
    """A running execution."""
    return core.claimed().snapshot


def as_(snapshot: TaskSnapshot, status: Status) -> TaskSnapshot:
    return msgspec.structs.replace(snapshot, status=status)


@pytest.mark.parametrize(
    ("event", "status", "published", "observed", "fails"),
    [
        ("enqueued", Status.PENDING, True, ["enqueued"], False),
        ("enqueued_as_claim", Status.PENDING, False, ["enqueued"], False),
        ("started", Status.RUNNING, True, ["started"], False),
        ("progressed", Status.RUNNING, True, [], False),
        ("changed", Status.RUNNING, True, [], False),
        ("changed", Status.RETRYING, True, [], False),
        ("changed", Status.CANCELLED, True, ["ended"], False),
        ("changed", Status.FAILED, True, ["ended"], True),
    ],
)
async def test_an_event_reaches_those_that_it_concerns(
    core: Core, snapshot: TaskSnapshot, event: str, status: Status, published: bool,
    observed: list[str], fails: bool,
) -> None:  # fmt: skip
    """One table of who is called for which event."""
    getattr(core.announcer, event)(as_(snapshot, status))
    assert core.bus.statuses == ([str(status)] if published else [])
    assert [it[0] for it in core.recorder.seen] == observed
    assert len(core.failures) == fails


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.RETRYING, Status.FAILED])
async def test_a_settled_attempt_is_published_observed_and_called_back(
    core: Core, snapshot: TaskSnapshot, status: Status
) -> None:
    """Only a failure for good calls back, with the traceback."""
    core.announcer.settled(as_(snapshot, status), 1.5, "the traceback")
    assert core.bus.statuses == [str(status)]
    assert core.recorder.seen == [("ended", status, 1.5, "the traceback")]
    called = [(it.status, traceback) for it, traceback in core.failures]
    assert called == ([(status, "the traceback")] if status is Status.FAILED else [])


async def test_a_slow_and_a_dropped_attempt_are_observed_only(
    core: Core, snapshot: TaskSnapshot
) -> None:
    """Their rows have not changed."""
    core.announcer.slow(snapshot, 2.0)
    core.announcer.dropped(snapshot, 3.0)
    assert core.recorder.seen == [("slow", "running", 2.0), ("dropped", "running", 3.0)]
    assert core.bus.published == []


async def test_a_bus_that_raises_keeps_nothing_else_from_being_announced(
    core: Core, snapshot: TaskSnapshot, caplog: pytest.LogCaptureFixture
) -> None:
    """Watchers re-read the row; the error is logged."""
    core.bus.broken = True
    core.announcer.settled(as_(snapshot, Status.FAILED), 1.0, None)
    assert core.recorder.events == [("ended", "failed")]
    assert len(core.failures) == 1
    assert "could not be published" in caplog.text


@pytest.mark.parametrize("emits", [True, False])
async def test_the_setting_decides_whether_changes_are_published(
    core: Core, snapshot: TaskSnapshot, emits: bool
) -> None:
    """Observers are called all the same."""
    recorder, bus = Recorder(), RecordingBus()
    announcer = Announcer(bus=bus, observers=Observers([recorder]), log=FailureLog(), emits=emits)
    announcer.started(snapshot)
    assert len(bus.published) == emits
    assert recorder.events == [("started", "running")]
    settings = TaskSettings(emit_subscriptions=emits)
    found: Any = announcer_for(settings, bus)
    assert found.emits is emits
