"""Failure callbacks: one call for each task that has failed for good."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from typing import Any
from uuid import UUID

import msgspec
import pytest

from rail_async_tasks.conf import TaskSettings
from rail_async_tasks.runtime import failures
from rail_async_tasks.runtime.failure_callbacks import CallbackLimits, FailureCallbacks
from rail_async_tasks.runtime.state import RuntimeState
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.states import Status
from tests.runtime.core import Core
from tests.support.clock import FakeClock


class Calls:
    """The project's callback: waits for the gate, then records or raises."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.made: list[dict[str, Any]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None

    async def __call__(self, **keywords: Any) -> None:
        self.began.append(keywords["taskId"])
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.made.append(keywords)


class Reservations:
    """Reservations of callbacks, as a ledger in a database keeps them."""

    def __init__(self) -> None:
        self.overdue: list[tuple[TaskSnapshot, str | None]] = []
        self.kept: list[frozenset[UUID]] = []
        self.ended: list[set[UUID]] = []
        self.locked: set[UUID] = set()

    async def take_overdue(
        self, hold: float, limit: int, besides: Collection[UUID]
    ) -> list[tuple[TaskSnapshot, str | None]]:
        found = [it for it in self.overdue if it[0].id not in besides][:limit]
        self.overdue = [it for it in self.overdue if it not in found]
        return found

    async def keep(self, execution_ids: Collection[UUID], hold: float) -> None:
        self.kept.append(frozenset(execution_ids))

    async def made(self, execution_ids: Collection[UUID]) -> set[UUID]:
        self.ended.append(set(execution_ids))
        locked, self.locked = self.locked, set()
        return locked

    def made_here(self, execution_id: UUID) -> None:
        raise AssertionError("Calls are made on the loop here.")


class World:
    """Callbacks on reservations; two calls at once, and four held."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, core: Core) -> None:
        self.core = core
        self.calls = Calls()
        self.reservations = Reservations()
        self.state = RuntimeState()
        self._monkeypatch = monkeypatch
        self.callbacks = self.build(self.reservations)

    def build(self, reservations: Reservations | None) -> FailureCallbacks:
        # Where the settings' dotted path leads.
        self._monkeypatch.setattr("tests.runtime.test_failures.CALLBACK", self.calls)
        return FailureCallbacks(
            settings=TaskSettings(
                on_failure="callback", failure_callback="tests.runtime.test_failures.CALLBACK"
            ),
            reservations=reservations, state=self.state,
            limits=CallbackLimits(at_once=2, most_waiting=4, page=2),
        )  # fmt: skip

    def failed(self) -> TaskSnapshot:
        """Returns a task that has failed."""
        snapshot = self.core.claimed().snapshot
        return msgspec.structs.replace(
            snapshot, status=Status.FAILED, error="no sense", error_code="exception"
        )


CALLBACK: Any = None


@pytest.fixture
async def core(clock: FakeClock) -> Core:
    return Core(clock)


@pytest.fixture
async def world(
    clock: FakeClock, core: Core, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    world = World(monkeypatch, core)
    yield world
    world.calls.gate.set()
    ending = asyncio.ensure_future(world.callbacks.ended(1))
    await clock.advance(5)
    await ending


async def test_a_failure_is_called_back_and_its_reservation_ended(
    clock: FakeClock, world: World
) -> None:
    """With the documented keywords."""
    failed = world.failed()
    world.callbacks.failed(failed, "the traceback")
    await clock.settle()
    assert world.calls.made == [
        {"taskId": str(failed.id), "task_name": failed.name, "error": "no sense",
         "traceback": "the traceback"}
    ]  # fmt: skip
    assert world.reservations.ended == [{failed.id}]


async def test_a_task_is_called_back_once(clock: FakeClock, world: World) -> None:
    """Though it is found overdue while its call waits."""
    world.calls.gate.clear()
    failed = world.failed()
    world.callbacks.failed(failed, None)
    world.reservations.overdue = [(failed, None)]
    world.callbacks.failed(failed, None)
    await world.callbacks.find_overdue()
    world.calls.gate.set()
    await clock.settle()
    assert len(world.calls.made) == 1


async def test_so_many_calls_are_made_at_once(clock: FakeClock, world: World) -> None:
    """The others wait for them; more than there is room for stay reserved in their rows."""
    world.calls.gate.clear()
    for _ in range(6):
        world.callbacks.failed(world.failed(), None)
    await clock.settle()
    assert len(world.calls.began) == 2
    world.calls.gate.set()
    await clock.settle()
    assert len(world.calls.made) == 4


async def test_rows_in_memory_are_all_called_back(clock: FakeClock, world: World) -> None:
    """No reservation could lapse: no process would find those that had no room."""
    callbacks = world.build(None)
    for _ in range(6):
        callbacks.failed(world.failed(), None)
    await clock.settle()
    assert len(world.calls.made) == 6
    await callbacks.ended(0)


async def test_overdue_calls_are_taken_over_page_by_page(clock: FakeClock, world: World) -> None:
    """While there is room."""
    world.reservations.overdue = [(world.failed(), None) for _ in range(3)]
    await world.callbacks.find_overdue()
    await clock.settle()
    assert (len(world.calls.made), world.reservations.overdue) == (3, [])


async def test_a_callback_that_raises_is_logged_and_not_called_again(
    clock: FakeClock, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Except in a drain, where another process tries."""
    world.calls.error = ValueError("no mail server")
    first, second = world.failed(), world.failed()
    world.callbacks.failed(first, None)
    await clock.settle()
    world.state.draining = True
    world.callbacks.failed(second, None)
    await clock.settle()
    assert world.reservations.ended == [{first.id}]
    assert caplog.text.count("no mail server") == 2


async def test_a_call_that_hangs_is_given_up(
    clock: FakeClock, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """After five minutes: ten of them would keep all others from being made."""
    world.calls.gate.clear()
    failed = world.failed()
    world.callbacks.failed(failed, None)
    await clock.advance(299)
    assert world.reservations.ended == []
    await clock.advance(2)
    assert world.reservations.ended == [{failed.id}]
    assert "It has taken longer than 300 s" in caplog.text


async def test_a_reservation_is_kept_while_its_call_lasts(clock: FakeClock, world: World) -> None:
    """Every third of its time; no longer once the call is made."""
    world.calls.gate.clear()
    failed = world.failed()
    world.callbacks.failed(failed, None)
    await clock.advance(41)
    assert world.reservations.kept == [{failed.id}] * 2
    world.calls.gate.set()
    await clock.advance(100)
    assert len(world.reservations.kept) <= 3


async def test_a_reservation_in_a_locked_row_is_ended_later(clock: FakeClock, world: World) -> None:
    """Another transaction has the row for now."""
    failed = world.failed()
    world.reservations.locked = {failed.id}
    world.callbacks.failed(failed, None)
    await clock.settle()
    assert world.reservations.ended == [{failed.id}]
    await clock.advance(0.3)
    assert world.reservations.ended == [{failed.id}] * 2


async def test_the_end_cancels_calls_and_keeps_their_reservations(
    clock: FakeClock, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Another process makes them. They get a second to return."""
    world.calls.gate.clear()
    world.callbacks.failed(world.failed(), None)
    await clock.settle()
    ending = asyncio.ensure_future(world.callbacks.ended(1.0))
    await clock.advance(0.9)
    assert not ending.done()
    await clock.advance(1)
    assert ending.done()
    world.callbacks.failed(world.failed(), None)
    await clock.settle()
    assert (world.reservations.ended, len(world.calls.began)) == ([], 1)
    assert "raised" not in caplog.text


# --- without a callback ---------------------------------------------------------------------------


async def test_without_a_callback_a_failure_goes_nowhere(world: World) -> None:
    """It is logged by the announcer, as every failure."""
    callbacks = FailureCallbacks(
        settings=TaskSettings(), reservations=world.reservations, state=world.state
    )
    callbacks.failed(world.failed(), "the traceback")
    await callbacks.find_overdue()
    await callbacks.ended(0)
    assert world.reservations.ended == []


@pytest.mark.parametrize(
    ("fields", "hold"),
    [
        ({}, None),
        ({"on_failure": "callback"}, 60.0),
        ({"on_failure": "callback", "backend": "sync"}, 3600.0),
    ],
)
def test_a_callback_is_reserved_for_as_long_as_it_is_renewed(
    fields: dict[str, Any], hold: float | None
) -> None:
    """In the caller's thread nothing renews it: an hour."""
    assert failures.hold_of(TaskSettings(**fields)) == hold


def test_an_error_of_a_call_in_this_thread_is_returned() -> None:
    """Of a plain function, and of one that returns a coroutine, as decorators make."""

    def plain() -> None:
        raise ValueError("no mail server")

    async def coroutine() -> None:
        raise ValueError("no mail server")

    for call in (plain, lambda: coroutine()):  # noqa: PLW0108
        assert str(failures.error_of(call)) == "no mail server"
    assert failures.error_of(lambda: None) is None
