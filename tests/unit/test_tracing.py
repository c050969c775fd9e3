"""The guard around tracers: whatever a project's tracing raises, starts and attempts go on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from rail_async_tasks.conf import TaskSettings
from rail_async_tasks.errors import ConfigurationError
from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.records import NewExecution
from rail_async_tasks.runtime import tracing
from rail_async_tasks.runtime.tracing import SafeTracer, tracer_for
from rail_async_tasks.snapshot import TaskSnapshot

NOW = datetime.now(UTC)
SNAPSHOT = TaskSnapshot(
    id=new_id(), name="t", status="running", queue="default", created_at=NOW, updated_at=NOW
)
NEWS = [
    NewExecution(
        id=SNAPSHOT.id, name="t", queue="default", priority=0, arguments="{}", max_retries=0
    )
]
TRACED = [*NEWS, *NEWS]
ERRORS = [KeyError, SystemExit, StopIteration, asyncio.CancelledError, GeneratorExit]
# Every call of a tracer, in order. `enter` and `leave` are those of a start's block.
CALLS = [
    "sending", "enter", "news", "stored", "discard", "leave",
    "attempt", "trace_id", "activate", "undo", "body_ended", "settled", "dropped",
]  # fmt: skip


class Fragile:
    """A tracer, its sendings and its spans, of which one call raises."""

    def __init__(self, broken: str, error: BaseException) -> None:
        self.broken = broken
        self.error = error
        self.calls: list[str] = []

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if name == self.broken:
            raise self.error

    def sending(self, news: Sequence[NewExecution]) -> Any:
        self._called("sending")
        return self

    def __enter__(self) -> Any:
        self._called("enter")
        return self

    def __exit__(self, *raised: object) -> None:
        self._called("leave")

    @property
    def news(self) -> Sequence[NewExecution]:
        self._called("news")
        return TRACED

    def stored(self, snapshot: TaskSnapshot) -> None:
        self._called("stored")

    def discard(self) -> None:
        self._called("discard")

    def attempt(self, claimed: Any, definition: Any) -> Any:
        self._called("attempt")
        return self

    @property
    def trace_id(self) -> str:
        self._called("trace_id")
        return "a" * 32

    def activate(self) -> Callable[[], None]:
        self._called("activate")
        return lambda: self._called("undo")

    def body_ended(self) -> None:
        self._called("body_ended")

    def settled(self, snapshot: TaskSnapshot, cause: BaseException | None) -> None:
        self._called("settled")

    def dropped(self) -> None:
        self._called("dropped")


def use(tracer: Fragile) -> Sequence[NewExecution]:
    """Makes every call that a start and an attempt make; returns what the start would store."""
    safe = SafeTracer(tracer)
    with safe.sending(NEWS) as sending:
        stored = sending.news
        sending.stored(SNAPSHOT)
        sending.discard()
    span = safe.attempt(None, None)  # type: ignore[arg-type]
    if span is not None:
        span.activate()()
        span.body_ended()
        span.settled(SNAPSHOT, None)
        span.dropped()
    return stored


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("broken", CALLS)
def test_what_a_call_raises_is_logged_once(
    broken: str, error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """The caller goes on. What is stored has no trace context where the span is not to be had."""
    tracer = Fragile(broken, error("from the project"))
    assert use(tracer) == (NEWS if broken in ("sending", "enter", "news") else TRACED)
    assert broken in tracer.calls
    (record,) = [it for it in caplog.records if it.name == "rail_async_tasks.tracing"]
    assert (record.levelno, record.exc_info and record.exc_info[1]) == (
        logging.ERROR, tracer.error,
    )  # fmt: skip
    if broken not in ("sending", "enter"):
        assert "leave" in tracer.calls  # what was entered is left


def test_all_calls_reach_a_sound_tracer() -> None:
    """In their order."""
    tracer = Fragile("none", KeyError())
    assert use(tracer) == TRACED
    assert tracer.calls == CALLS


@pytest.mark.parametrize("broken", ["none", "enter", "leave"])
@pytest.mark.parametrize("error", [*ERRORS, KeyboardInterrupt])
def test_a_start_that_is_refused_raises_its_own_error(
    broken: str, error: type[BaseException]
) -> None:
    """Not the tracer's, which fails besides."""
    refusal = error("the queue is full")
    with pytest.raises(error) as caught, SafeTracer(Fragile(broken, ValueError())).sending(NEWS):
        raise refusal
    assert caught.value is refusal


def test_a_block_that_the_tracer_leaves_by_the_same_error(caplog: pytest.LogCaptureFixture) -> None:
    """As a generator's context manager does: nothing of it is the tracer's."""

    class Plain(Fragile):
        @contextmanager
        def sending(self, news: Sequence[NewExecution]) -> Iterator[Any]:
            yield self

    with pytest.raises(KeyError), SafeTracer(Plain("none", ValueError())).sending(NEWS):
        raise KeyError
    assert caplog.records == []


def test_a_ctrl_c_passes() -> None:
    """In the main thread, where a person sends it."""
    for broken in CALLS:
        with pytest.raises(KeyboardInterrupt):
            use(Fragile(broken, KeyboardInterrupt()))


@pytest.mark.parametrize("error", ERRORS)
def test_a_provider_without_a_tracer(
    error: type[BaseException], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is asked once, and nothing is traced."""
    asked: list[TaskSettings] = []

    def factory(settings: TaskSettings) -> None:
        asked.append(settings)
        raise error("no tracer")

    monkeypatch.setattr(tracing, "_factory", factory)
    monkeypatch.setattr(tracing, "_known", None)
    settings = TaskSettings()
    assert [tracer_for(settings), tracer_for(settings)] == [None, None]
    assert (asked, len(caplog.records)) == ([settings], 1)


def test_wrong_settings_are_still_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing package is for the project to mend, not to be overlooked."""

    def factory(settings: TaskSettings) -> None:
        raise ConfigurationError("install the extra")

    monkeypatch.setattr(tracing, "_factory", factory)
    monkeypatch.setattr(tracing, "_known", None)
    with pytest.raises(ConfigurationError, match="install the extra"):
        tracer_for(TaskSettings())
