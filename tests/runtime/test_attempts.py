"""Attempts in the slots of a process: started, interrupted, given up, ended."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest

from rail_async_tasks.ids import new_id
from rail_async_tasks.runtime.attempts.attempt import Attempt
from rail_async_tasks.runtime.attempts.attempts import Attempts
from rail_async_tasks.runtime.attempts.body import Body
from rail_async_tasks.runtime.attempts.orm_threads import Seat
from rail_async_tasks.runtime.attempts.outcomes import Interruption
from tests.runtime.core import Core
from tests.support import rude
from tests.support.clock import FakeClock


@pytest.fixture
async def core(clock: FakeClock) -> Core:
    core = Core(clock, cancel_grace_seconds=4.0, slow_task_threshold_seconds=60.0)
    core.empty_queues()
    return core


@pytest.fixture
async def attempts(core: Core) -> AsyncIterator[Attempts]:
    attempts = core.attempts()
    yield attempts
    await attempts.close(5)


async def body() -> int:
    """A task that returns at once."""
    return 7


def start(core: Core, attempts: Attempts, name: str = "body", **fields: Any) -> Any:
    """Starts an execution that was claimed for this runtime."""
    claimed = core.claimed(name, **fields)
    attempts.start(claimed, core.state.id)
    return claimed.snapshot.id


async def test_an_attempt_runs_its_body_and_stores_its_outcome(
    clock: FakeClock, core: Core, attempts: Attempts
) -> None:
    """It takes a slot meanwhile, and is announced at both ends."""
    core.task(body)
    execution_id = start(core, attempts)
    assert (core.slots.running, core.slots.room("default", False)) == (1, 1)
    await clock.settle()
    row = core.ledger.get(execution_id)
    assert row is not None
    assert (row.status, row.result) == ("completed", 7)
    assert core.recorder.events == [("started", "running"), ("ended", "completed")]
    assert core.bus.statuses == ["running", "completed"]
    assert (core.slots.running, core.running.by_id) == (0, {})


async def with_info(info: Any) -> int:
    """A task that reports."""
    info.context.task.update_progress(50)
    return 7


@pytest.mark.parametrize("function", [body, with_info])
async def test_an_attempt_leaves_no_rings_to_the_garbage_collector(
    clock: FakeClock, core: Core, attempts: Attempts, function: Any
) -> None:
    """Freeing thousands a second would take it longer than running them."""
    core.task(function)
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        start(core, attempts, function.__name__)
        await clock.settle()
        gc.collect()
        left = [type(it) for it in gc.garbage if isinstance(it, Attempt | Body | Seat)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
    assert left == []


@pytest.mark.parametrize("reason", ["drain", "other lease", "no lease"])
async def test_what_was_claimed_too_late_is_handed_back_unstarted(
    clock: FakeClock, core: Core, attempts: Attempts, reason: str
) -> None:
    """The body does not take its first step."""
    steps: list[int] = []

    async def late() -> None:
        steps.append(1)

    core.task(late)
    claimed = core.claimed("late")
    core.state.draining = reason == "drain"
    core.state.holding = reason != "no lease"
    attempts.start(claimed, new_id() if reason == "other lease" else core.state.id)
    await clock.settle()
    assert (core.status(claimed.snapshot.id), steps) == ("retrying", [])
    assert core.slots.running == 0


async def test_a_cancel_reaches_the_body(clock: FakeClock, core: Core, attempts: Attempts) -> None:
    """Its task is cancelled, and the row with it."""
    ended: list[str] = []

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("here")

    core.task(waits)
    execution_id = start(core, attempts, "waits")
    await clock.settle()
    core.ledger.cancel(execution_id, None)
    core.running.cancel(execution_id)
    assert core.running.by_id[execution_id].snapshot.cancel_requested
    await clock.settle()
    assert (core.status(execution_id), ended) == ("cancelled", ["here"])


async def test_a_cancel_of_what_runs_elsewhere_does_nothing(core: Core) -> None:
    """It is not an error: the row's holder finds it."""
    core.running.cancel(new_id())


async def test_a_body_that_does_not_end_is_given_up_and_its_slot_replaced(
    clock: FakeClock, core: Core, attempts: Attempts, caplog: pytest.LogCaptureFixture
) -> None:
    """After the grace time. Once it ends, the leak is over."""
    gate = asyncio.Event()

    async def stubborn() -> None:
        while not gate.is_set():
            try:
                await gate.wait()
            except asyncio.CancelledError:
                continue

    core.task(stubborn)
    execution_id = start(core, attempts, "stubborn")
    await clock.settle()
    core.running.interrupt_all(Interruption.HAND_BACK)
    await clock.advance(3.9)
    assert core.slots.running == 1
    await clock.advance(0.2)
    assert (core.slots.running, core.slots.leaked) == (0, 1)
    assert core.status(execution_id) == "retrying"
    assert not attempts.bodies_running
    assert "it is given up" in caplog.text
    gate.set()
    await clock.settle()
    assert core.slots.leaked == 0


async def test_a_timeout_fails_an_attempt_in_its_time(
    clock: FakeClock, core: Core, attempts: Attempts
) -> None:
    """By the loop's clock."""

    async def endless() -> None:
        await asyncio.Event().wait()

    core.task(endless, timeout=30.0)
    execution_id = start(core, attempts, "endless")
    await clock.advance(29.9)
    assert core.status(execution_id) == "running"
    await clock.advance(0.2)
    row = core.ledger.get(execution_id)
    assert row is not None
    assert (row.status, row.error_code) == ("failed", "timeout")
    assert len(core.failures) == 1


async def test_a_slow_attempt_is_announced_once(
    clock: FakeClock, core: Core, attempts: Attempts
) -> None:
    """When the threshold is passed."""

    async def slow() -> None:
        await asyncio.sleep(200)

    core.task(slow)
    start(core, attempts, "slow")
    await clock.advance(59)
    assert [it for it in core.recorder.seen if it[0] == "slow"] == []
    await clock.advance(200)
    (seen,) = (it for it in core.recorder.seen if it[0] == "slow")
    assert seen[2] == pytest.approx(60)
    assert core.recorder.last("ended")[2] == pytest.approx(200)


async def test_progress_is_announced_and_saved(
    clock: FakeClock, core: Core, attempts: Attempts
) -> None:
    """On the bus at once, in the row half a second later."""

    async def reports(info: Any) -> None:
        info.context.task.update_progress(40, "almost")
        await asyncio.sleep(10)

    core.task(reports)
    execution_id = start(core, attempts, "reports")
    await clock.settle()
    assert core.bus.published[-1].progress == 40
    row = core.ledger.get(execution_id)
    assert row is not None
    assert row.progress == 0
    await clock.advance(0.6)
    row = core.ledger.get(execution_id)
    assert row is not None
    assert (row.progress, row.progress_message) == (40, "almost")


async def test_a_freed_slot_wakes_the_dispatcher(
    clock: FakeClock, core: Core, attempts: Attempts
) -> None:
    """Rows may wait for it."""

    async def waits() -> None:
        await asyncio.sleep(5)

    core.task(waits)
    for _ in range(2):
        start(core, attempts, "waits")
    core.due.expect("waits", "default")
    needed = asyncio.ensure_future(core.due.until_needed())
    await clock.advance(4.9)
    assert not needed.done()
    await clock.advance(0.2)
    assert needed.done()


async def test_owners_and_suspects_are_counted_while_they_run(
    clock: FakeClock, core: Core, attempts: Attempts
) -> None:
    """For claims: fewer first, and one suspect at a time."""

    async def waits() -> None:
        await asyncio.sleep(5)

    core.task(waits)
    start(core, attempts, "waits", owner_id="7")
    start(core, attempts, "waits")
    assert core.running.by_owner("default") == {"7": 1, "": 1}
    assert core.running.by_owner("other") == {}
    assert not core.running.any_suspect
    for attempt in core.running.by_id.values():
        attempt.interrupt(Interruption.CANCEL)
    await clock.settle()
    claimed = core.claimed("waits")
    attempts.start(msgspec.structs.replace(claimed, suspect=True), core.state.id)
    assert core.running.any_suspect
    await clock.advance(6)
    assert not core.running.any_suspect
    assert core.running.by_owner("default") == {}


async def test_an_attempt_that_cannot_be_made_gives_its_slot_back(
    clock: FakeClock, core: Core, attempts: Attempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is the caller's to log; the next execution finds the slot free."""
    core.task(body)

    def broken(*args: object) -> None:
        raise RuntimeError("no policy")

    with monkeypatch.context() as patch:
        patch.setattr("rail_async_tasks.runtime.attempts.attempts.policy_for", broken)
        for _ in range(2):
            with pytest.raises(RuntimeError, match="no policy"):
                start(core, attempts)
    assert (core.slots.running, core.slots.room("default", False)) == (0, 2)
    assert core.running.by_id == {}
    execution_id = start(core, attempts)
    await clock.settle()
    assert core.status(execution_id) == "completed"


@contextmanager
def no_task_for_a_body(core: Core, error: type[BaseException]) -> Iterator[None]:
    """Has the project's task factory raise for the tasks of attempts."""

    def factory(loop: Any, coroutine: Any, **options: Any) -> Any:
        if coroutine.__qualname__ == "_run":
            raise error("no task")
        return asyncio.Task(coroutine, loop=loop, **options)

    core.loop.set_task_factory(factory)
    try:
        yield
    finally:
        core.loop.set_task_factory(None)


def seats(attempts: Attempts) -> int:
    """Returns how many attempts have a place among the threads of ORM calls."""
    return sum(lane.attempts for lane in attempts._orm_threads._lanes)


@pytest.mark.parametrize(
    "error", [KeyError, SystemExit, StopIteration, asyncio.CancelledError, GeneratorExit]
)
async def test_an_attempt_that_cannot_begin_ends_with_the_error(
    clock: FakeClock, core: Core, attempts: Attempts, error: type[BaseException]
) -> None:
    """Nothing is left of it, and it is not claimed again at once: a retry waits for its delay."""
    core.task(body)
    with no_task_for_a_body(core, error):
        failed = start(core, attempts)
        retried = start(core, attempts, max_retries=1)
        assert (core.slots.running, core.slots.room("default", False)) == (0, 2)
        assert seats(attempts) == 0
        await clock.settle()
    assert core.running.by_id == {}
    assert (core.status(failed), core.status(retried)) == ("failed", "retrying")
    row, later = core.ledger.get(failed), core.ledger.get(retried)
    assert row is not None
    assert row.error == (
        "'no task'" if error is KeyError else f"Its start raised {error.__name__}."
    )
    assert later is not None
    assert later.run_after is not None
    assert later.run_after > clock.now()
    assert core.recorder.events[:2] == [("started", "running"), ("ended", "failed")]
    assert [it.id for it, _ in core.failures] == [failed]
    execution_id = start(core, attempts)
    await clock.settle()
    assert core.status(execution_id) == "completed"


async def test_a_ctrl_c_as_an_attempt_begins_hands_it_back(
    clock: FakeClock, core: Core, attempts: Attempts
) -> None:
    """The process is to end: the task is no failure of its own."""
    core.task(body)
    claimed = core.claimed()
    with no_task_for_a_body(core, KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        attempts.start(claimed, core.state.id)
    await clock.settle()
    assert core.status(claimed.snapshot.id) == "retrying"
    assert (core.slots.running, core.running.by_id, seats(attempts)) == (0, {}, 0)


async def test_a_cancel_whose_own_code_raises_ends_its_attempt(
    clock: FakeClock, core: Core, attempts: Attempts
) -> None:
    """It is an outcome, and the loop goes on."""

    async def odd() -> None:
        raise rude.EXCEPTIONS["cancelled"](SystemExit)

    core.task(odd)
    execution_id = start(core, attempts, "odd")
    await clock.settle()
    assert (core.status(execution_id), core.running.by_id) == ("failed", {})
