"""The seam by which logs, metrics and callbacks see what becomes of executions."""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime
from typing import Any

import pytest

from rail_async_tasks.conf import TaskSettings
from rail_async_tasks.ids import new_id
from rail_async_tasks.runtime import observers
from rail_async_tasks.runtime.observers import Observers, observers_for
from rail_async_tasks.snapshot import TaskSnapshot
from tests.support.recorder import Broken, Recorder

NOW = datetime.now(UTC)
SNAPSHOT = TaskSnapshot(
    id=new_id(), name="t", status="running", queue="default", created_at=NOW, updated_at=NOW
)


@pytest.fixture(autouse=True)
def no_factories(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observers, "_factories", {})
    monkeypatch.setattr(observers, "_known", None)


def call_all(observer: Observers) -> None:
    observer.enqueued(SNAPSHOT)
    observer.started(SNAPSHOT)
    observer.slow(SNAPSHOT, 2.0)
    observer.ended(SNAPSHOT, 3.0, "Traceback")
    observer.dropped(SNAPSHOT, 4.0)


ALL = [
    ("enqueued", "running"),
    ("started", "running", 0),
    ("slow", "running", 2.0),
    ("ended", "running", 3.0, "Traceback"),
    ("dropped", "running", 4.0),
]


def test_every_observer_is_called(caplog: pytest.LogCaptureFixture) -> None:
    """One that fails hurts neither the others nor the caller, and each failure is logged."""
    first, last = Recorder(), Recorder()
    call_all(Observers([first, Broken(), last]))
    assert first.seen == last.seen == ALL
    records = [it for it in caplog.records if it.name == "rail_async_tasks.observers"]
    assert [it.levelno for it in records] == [logging.ERROR] * 5
    assert all("Broken" in it.getMessage() and it.exc_info for it in records)


def test_only_those_that_the_settings_ask_for() -> None:
    """A factory sees the settings and may answer None; registered twice it is asked once."""
    recorder = Recorder()

    def if_asked(settings: TaskSettings) -> Recorder | None:
        return recorder if settings.log_task_start else None

    observers.register(if_asked)
    observers.register(if_asked)
    call_all(observers_for(TaskSettings()))
    assert recorder.seen == []
    call_all(observers_for(TaskSettings(log_task_start=True)))
    assert recorder.seen == ALL


@pytest.mark.parametrize("error", [AttributeError, SystemExit, StopIteration])
def test_one_that_cannot_be_made_is_left_out(
    caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    """A provider of the project's raises, and tasks go on with the other observers."""
    recorder = Recorder()

    def broken(settings: TaskSettings) -> Recorder:
        raise error("no provider")

    observers.register(broken)
    observers.register(lambda settings: recorder)
    settings = TaskSettings()
    call_all(observers_for(settings))
    assert observers_for(settings) is observers_for(settings)
    assert recorder.seen == ALL
    assert [it.getMessage().partition("broken() failed")[1] for it in caplog.records] == [
        "broken() failed"
    ]


def test_they_are_made_once_for_the_settings() -> None:
    """A counter that was made anew for each task would count to one."""
    made = []

    def make(settings: TaskSettings) -> Any:
        made.append(settings)
        return Recorder()

    observers.register(make)
    settings = TaskSettings()
    assert observers_for(settings) is observers_for(settings)
    assert observers_for(TaskSettings(log_task_start=True)) is not observers_for(settings)
    assert len(made) == 3


def test_a_forked_child_makes_its_own() -> None:
    """It must not count with its parent's counters and locks."""
    settings = TaskSettings()
    before = observers_for(settings)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, b"same" if observers_for(settings) is before else b"new")
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        assert answer.read() == "new"
