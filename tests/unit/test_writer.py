"""The group-commit writer, with a session that the test controls."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from django.db import InterfaceError

from rail_async_tasks import safe_logging
from rail_async_tasks.ledger import postponed
from rail_async_tasks.ledger import writer as module
from rail_async_tasks.ledger.records import RowLocked
from rail_async_tasks.ledger.writer import Writer
from rail_async_tasks.ledger.writer_port import AGAIN, ONCE
from tests.support.waiting import TIMEOUT, eventually


class Lost(Exception):
    """A failure that passes."""


class Bad(Exception):
    """A failure that does not."""


class Op:
    """An operation that records its results."""

    def __init__(
        self,
        name: Any,
        *,
        bad: bool = False,
        give_up_at: float | None = None,
        key: str | None = None,
    ) -> None:
        self.name = name
        self.key = key
        self.bad = bad
        self.give_up_at = give_up_at
        self.results: list[Any] = []
        self.loop = asyncio.get_running_loop()

    def done(self, result: Any) -> None:
        assert asyncio.get_running_loop() is self.loop
        self.results.append(result)


class FakeSession:
    """Executes when the test lets it, and fails as often as the test wants."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.resets = 0
        # By what is in the batch: the errors to raise, each with whether the COMMIT was sent.
        self.failures: dict[tuple[Any, ...], list[tuple[Exception, bool]]] = {}
        # The names of operations whose rows are locked, and the keys that are.
        self.locked: set[Any] = set()
        self.may_have_committed = False
        self.held = threading.Event()  # the writer is inside `execute`
        self.go = threading.Event()
        self.go.set()

    def execute(self, batch: Sequence[Any]) -> list[Any]:
        self.held.set()
        assert self.go.wait(TIMEOUT)
        names = [op.name for op in batch]
        self.batches.append(names)
        self.may_have_committed = False
        if failures := self.failures.get(tuple(names)):
            error, self.may_have_committed = failures.pop(0)
            raise error
        if any(op.bad for op in batch):
            raise Bad
        return [AGAIN if {op.name, op.key} & self.locked else f"wrote {op.name}" for op in batch]

    def is_transient(self, error: Exception) -> bool:
        return isinstance(error, Lost)

    def reset(self) -> None:
        self.resets += 1


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> FakeSession:
    monkeypatch.setattr(module, "FIRST_BACKOFF", 0.0)
    monkeypatch.setattr(module, "MAX_BACKOFF", 0.0)
    return FakeSession()


@pytest.fixture
async def writer(session: FakeSession, anyio_backend: Any) -> AsyncIterator[Writer]:
    it = Writer("test-writer", lambda: session)
    it.start(asyncio.get_running_loop())
    yield it
    session.go.set()
    session.locked = set()
    await asyncio.wait_for(it.stop(), TIMEOUT)


async def gathered(writer: Writer, session: FakeSession, ops: Sequence[Op]) -> list[list[Any]]:
    """The batches in which the writer writes what gathered while it was busy."""
    session.go.clear()
    session.held.clear()
    writer.submit(Op("first"))
    await asyncio.to_thread(session.held.wait, TIMEOUT)
    session.batches.clear()
    for op in ops:
        writer.submit(op)
    session.go.set()
    await writer.flushed()
    return session.batches[1:]


async def test_what_gathers_is_written_together_in_order(
    writer: Writer, session: FakeSession, loop_kind: str
) -> None:
    """While one batch is at the database the next one gathers; each gets its own result."""
    ops = [Op(n) for n in range(10)]
    assert await gathered(writer, session, ops) == [list(range(10))]
    assert [op.results for op in ops] == [[f"wrote {n}"] for n in range(10)]
    assert writer.pending == 0
    assert (writer.batches, writer.written) == (2, 11)


async def test_a_lone_write_does_not_wait(writer: Writer, session: FakeSession) -> None:
    """There is no time for which a batch gathers."""
    for n in range(3):
        writer.submit(Op(n))
        await writer.flushed()
    assert session.batches == [[0], [1], [2]]


async def test_what_one_step_of_the_loop_submits_is_one_batch(
    writer: Writer, session: FakeSession, loop_kind: str
) -> None:
    """The thread is not woken by the first, which would have a COMMIT of its own."""
    for n in range(10):
        writer.submit(Op(n))
    await writer.flushed()
    assert session.batches == [list(range(10))]


async def test_a_batch_has_a_limit(
    writer: Writer, session: FakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest goes with the next."""
    monkeypatch.setattr(module, "MAX_BATCH", 4)
    batches = await gathered(writer, session, [Op(n) for n in range(10)])
    assert batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


async def test_operations_with_a_key_share_no_batch_with_others(
    writer: Writer, session: FakeSession
) -> None:
    """First, last and in the middle; the order stays."""
    ops = [Op(n, key=f"k{n}" if n in (0, 3, 4, 7) else None) for n in range(8)]
    assert await gathered(writer, session, ops) == [[0], [1, 2], [3, 4], [5, 6], [7]]
    assert all(len(op.results) == 1 for op in ops)


async def test_a_transient_failure_repeats_the_whole_batch(
    writer: Writer, session: FakeSession, caplog: pytest.LogCaptureFixture
) -> None:
    """On a fresh connection, until it goes through; no result comes in between."""
    ops = [Op(n) for n in range(3)]
    session.failures[0, 1, 2] = [(Lost(), False)] * 5
    with caplog.at_level(logging.WARNING):
        assert await gathered(writer, session, ops) == [[0, 1, 2]] * 6
        safe_logging.flush(TIMEOUT)
    assert [op.results for op in ops] == [["wrote 0"], ["wrote 1"], ["wrote 2"]]
    assert session.resets == 5
    assert writer.failing_since is None
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 2  # once when it begins, once when it is over
    assert "works again" in warnings[1]


async def test_a_batch_waits_no_longer_for_failures_before_it(
    session: FakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reads that are tried once fail without a pause; the write after them has the shortest."""
    pauses: list[float] = []
    monkeypatch.setattr(module, "FIRST_BACKOFF", 0.001)
    monkeypatch.setattr(module, "MAX_BACKOFF", 2.0)
    monkeypatch.setattr(module.time, "sleep", pauses.append)
    writer = Writer("test-writer", lambda: session)
    writer.start(asyncio.get_running_loop())
    for name in range(8):
        session.failures[name,] = [(Lost("away"), False)]
        read = Op(name, give_up_at=ONCE)
        writer.submit(read)
        await eventually(lambda read=read: read.results)
    session.failures["write",] = [(Lost("away"), False)]
    write = Op("write")
    writer.submit(write)
    await eventually(lambda: write.results)
    assert write.results == ["wrote write"]
    assert len(pauses) == 1
    assert pauses[0] <= 0.001
    await writer.stop()


async def test_what_is_submitted_meanwhile_waits_in_line(
    writer: Writer, session: FakeSession
) -> None:
    """A batch that is repeated is not overtaken."""
    session.failures["first",] = [(Lost(), True), (Lost(), False)]
    assert await gathered(writer, session, [Op("late")]) == [["first"], ["first"], ["late"]]


@pytest.mark.parametrize("guilty", [{0}, {4}, {8}, {2, 6}, set(range(9))])
async def test_a_bad_operation_fails_alone(
    writer: Writer, session: FakeSession, guilty: set[int]
) -> None:
    """The batch is split until it is found; all others are written, and each is answered once."""
    ops = [Op(n, bad=n in guilty) for n in range(9)]
    await gathered(writer, session, ops)
    for n, op in enumerate(ops):
        assert len(op.results) == 1
        assert isinstance(op.results[0], Bad) if n in guilty else op.results == [f"wrote {n}"]
    assert writer.pending == 0


async def test_a_lost_connection_while_splitting_is_survived(
    writer: Writer, session: FakeSession
) -> None:
    """The half that was lost is repeated, the guilty one still found."""
    ops = [Op(n, bad=n == 1) for n in range(4)]
    session.failures = {(0, 1): [(Lost(), True)], (2, 3): [(Lost(), False)] * 2}
    assert await gathered(writer, session, ops) == [
        [0, 1, 2, 3], [0, 1], [0, 1], [0], [1], [2, 3], [2, 3], [2, 3],
    ]  # fmt: skip
    assert [isinstance(op.results[0], Bad) for op in ops] == [False, True, False, False]
    assert all(len(op.results) == 1 for op in ops)


async def test_an_operation_past_its_limit_fails(writer: Writer, session: FakeSession) -> None:
    """An operation past its limit fails if it was surely not written; its neighbours go on."""
    overdue, patient = Op("overdue", give_up_at=time.monotonic() - 1), Op("patient")
    session.failures["overdue", "patient"] = [(Lost(), False)]
    assert await gathered(writer, session, [overdue, patient]) == [
        ["overdue", "patient"],
        ["patient"],
    ]
    assert [isinstance(it, Lost) for it in overdue.results] == [True]
    assert patient.results == ["wrote patient"]


async def test_the_limit_is_for_a_database_that_fails(writer: Writer, session: FakeSession) -> None:
    """Everything that can be written is written, however late."""
    overdue = Op("overdue", give_up_at=time.monotonic() - 1)
    await gathered(writer, session, [overdue])
    assert overdue.results == ["wrote overdue"]


async def test_who_may_have_been_written_is_not_given_up(
    writer: Writer, session: FakeSession
) -> None:
    """With a COMMIT in doubt, repeating it is the only way to find out, whatever fails next."""
    overdue = Op("overdue", give_up_at=time.monotonic() - 1)
    session.failures["overdue",] = [(Lost(), True), (Lost(), False), (Lost(), False)]
    await gathered(writer, session, [overdue])
    assert overdue.results == ["wrote overdue"]


async def test_a_callback_that_fails_does_not_stop_the_others(
    writer: Writer, session: FakeSession, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged."""
    broken, fine = Op("broken"), Op("fine")
    broken.done = lambda result: 1 // 0  # type: ignore[assignment, method-assign]
    await gathered(writer, session, [broken, fine])
    assert fine.results == ["wrote fine"]
    assert "ZeroDivisionError" in caplog.text


async def test_a_backlog_holds_up_who_asks_first(
    writer: Writer, session: FakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Congested from the high-water mark; relieved at the low-water mark, not before."""
    monkeypatch.setattr(module, "HIGH_WATER", 10)
    monkeypatch.setattr(module, "LOW_WATER", 4)
    monkeypatch.setattr(module, "MAX_BATCH", 1)
    await writer.relieved()
    session.go.clear()
    left_at_relief = []

    async def wait() -> None:
        await writer.relieved()
        left_at_relief.append(writer.pending)

    for n in range(9):
        writer.submit(Op(n))
    assert not writer.congested
    writer.submit(Op(9))
    assert writer.congested
    waiting = asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    session.go.set()
    await asyncio.wait_for(waiting, TIMEOUT)
    assert left_at_relief[0] <= 4
    assert not writer.congested


async def test_stopping_writes_what_was_accepted(session: FakeSession) -> None:
    """Also what comes while it flushes; then the connection is closed."""
    writer = Writer("test-writer", lambda: session)
    writer.start(asyncio.get_running_loop())
    late = Op("late")
    first = Op("first")
    first.done = lambda result: writer.submit(late)  # type: ignore[method-assign]
    writer.submit(first)
    await writer.stop()
    assert late.results == ["wrote late"]
    assert session.resets == 1


async def test_a_writer_can_be_started_again(session: FakeSession) -> None:
    """A process may host its runtime more than once."""
    writer = Writer("test-writer", lambda: session)
    for n in range(3):
        writer.start(asyncio.get_running_loop())
        ops = [Op(n), Op(n)]
        for op in ops:
            writer.submit(op)
            await writer.flushed()
        assert [op.results for op in ops] == [[f"wrote {n}"]] * 2
        await writer.stop()
        assert session.resets == n + 1


async def test_a_loop_that_was_closed_in_its_last_step(session: FakeSession) -> None:
    """What it submitted is written, and the writer serves the next loop."""
    writer = Writer("test-writer", lambda: session)

    async def last_step() -> None:
        writer.start(asyncio.get_running_loop())
        writer.submit(Op("left"))

    def run() -> None:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(last_step())
        loop.close()

    await asyncio.to_thread(run)
    writer.start(asyncio.get_running_loop())
    next_one = Op("next")
    writer.submit(next_one)
    await asyncio.wait_for(writer.flushed(), TIMEOUT)
    await asyncio.wait_for(writer.stop(), TIMEOUT)
    assert next_one.results == ["wrote next"]
    await eventually(lambda: ["left"] in session.batches)


async def test_a_stop_behind_a_submit_of_the_same_step(
    writer: Writer, session: FakeSession
) -> None:
    """The operation is written."""
    gathering = writer._gathering
    op = Op("last")
    writer.submit(op)
    gathering.end()  # as `stop` does, before the step is over
    await asyncio.wait_for(writer.flushed(), TIMEOUT)
    assert op.results == ["wrote last"]


# --- operations that a lock holds up --------------------------------------------------------------


async def until_offered(session: FakeSession, name: Any, times: int) -> None:
    """Returns once the session has been asked for it so often."""
    await eventually(lambda: sum(name in names for names in session.batches) >= times)


async def test_a_locked_operation_holds_up_no_other(writer: Writer, session: FakeSession) -> None:
    """Operations beside it and after it are written; it follows, once the lock is gone."""
    session.locked = {"locked"}
    locked, beside = Op("locked"), Op("beside")
    await gathered_but_locked(writer, session, [locked, beside])
    assert (locked.results, beside.results) == ([], ["wrote beside"])
    for n in range(3):
        after = Op(n)
        writer.submit(after)
        await until_answered(after)
    assert locked.results == []
    assert writer.failing_since is None  # nothing is wrong with the database
    session.locked = set()
    await writer.flushed()
    assert locked.results == ["wrote locked"]


async def gathered_but_locked(writer: Writer, session: FakeSession, ops: Sequence[Op]) -> None:
    """Writes these in one batch, as far as they can be."""
    session.go.clear()
    session.held.clear()
    first = Op("first")
    writer.submit(first)
    await asyncio.to_thread(session.held.wait, TIMEOUT)
    for op in ops:
        writer.submit(op)
    session.go.set()
    await until_offered(session, ops[-1].name, 1)
    await until_answered(first)


async def until_answered(op: Op) -> None:
    await eventually(lambda: op.results)


@pytest.fixture
def delays(monkeypatch: pytest.MonkeyPatch, anyio_backend: Any) -> list[float]:
    """The delays after which operations are offered again; no time passes instead."""
    found: list[float] = []
    timed = asyncio.BaseEventLoop.call_later

    def call_later(loop: Any, delay: float, callback: Any, *args: Any, **options: Any) -> Any:
        if args and isinstance(getattr(args[0], "operation", None), Op):
            found.append(delay)
            delay = 0
        return timed(loop, delay, callback, *args, **options)

    monkeypatch.setattr(asyncio.BaseEventLoop, "call_later", call_later)
    return found


async def test_what_is_locked_is_offered_later_and_later(
    writer: Writer, session: FakeSession, delays: list[float]
) -> None:
    """The delays double up to the most; the thread never sleeps for it."""
    session.locked = {"locked"}
    writer.submit(Op("locked"))
    await until_offered(session, "locked", 10)
    session.locked = set()
    await writer.flushed()
    assert delays[:9] == [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.5, 0.5, 0.5]


async def test_a_key_that_is_locked_is_asked_for_once(writer: Writer, session: FakeSession) -> None:
    """A thousand starts with the key of an open transaction cost the writer no more than one."""
    session.locked = {"k"}
    first = Op("first", key="k")
    writer.submit(first)
    await until_offered(session, "first", 2)
    others = [Op(n, key="k") for n in range(1000)]
    for op in others:
        writer.submit(op)
    free = Op("free", key="another")
    writer.submit(free)
    await until_answered(free)
    await until_offered(session, "first", 4)
    assert not any(op.name in names for op in others for names in session.batches)
    assert not writer.congested
    session.locked = set()
    await writer.flushed()
    assert first.results == ["wrote first"]
    assert [op.results for op in others] == [[f"wrote {n}"] for n in range(1000)]


async def test_many_keys_that_are_locked_leave_the_writer_its_time(
    writer: Writer, session: FakeSession, delays: list[float]
) -> None:
    """Each costs a few milliseconds a time: the more of them wait, the less often each is tried."""
    session.locked = {f"k{n}" for n in range(100)}
    for n in range(100):
        writer.submit(Op(n, key=f"k{n}"))
    await until_offered(session, 99, 3)
    assert delays[-1] == pytest.approx(100 * postponed.SHARE)
    session.locked = set()
    await writer.flushed()
    delays.clear()
    session.locked = {"k"}
    writer.submit(Op("one", key="k"))
    await until_offered(session, "one", 2)
    assert delays[0] == 0.01


async def test_what_is_locked_for_too_long_is_reported(
    writer: Writer, session: FakeSession
) -> None:
    """Nothing was written of it. The next with its key is tried, and those behind that wait on."""
    session.locked = {"k"}
    first = Op("first", key="k")
    second, third = (Op(name, key="k") for name in ("second", "third"))
    writer.submit(first)
    await until_offered(session, "first", 2)
    writer.submit(second)
    writer.submit(third)
    first.give_up_at = time.monotonic()  # its time is over by the next offer
    await until_answered(first)
    assert isinstance(first.results[0], RowLocked)
    await until_offered(session, "second", 2)
    assert not any("third" in names for names in session.batches)
    session.locked = set()
    await writer.flushed()
    assert (second.results, third.results) == (["wrote second"], ["wrote third"])


async def test_what_may_have_been_written_is_not_given_up_for_a_lock(
    writer: Writer, session: FakeSession
) -> None:
    """Its COMMIT is in doubt: only the row shows whether it took effect."""
    overdue = Op("overdue", give_up_at=time.monotonic() - 1)
    session.failures["overdue",] = [(Lost(), True)]
    session.locked = {"overdue"}
    writer.submit(overdue)
    await until_offered(session, "overdue", 4)
    assert overdue.results == []
    session.locked = set()
    await writer.flushed()
    assert overdue.results == ["wrote overdue"]


async def test_what_is_locked_is_no_backlog(
    writer: Writer, session: FakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Creations and claims wait for what the writer is behind with, not for others' locks."""
    monkeypatch.setattr(module, "HIGH_WATER", 10)
    monkeypatch.setattr(module, "LOW_WATER", 5)
    session.locked = set(range(20))
    for n in range(20):
        writer.submit(Op(n))
    assert writer.congested
    await asyncio.wait_for(writer.relieved(), TIMEOUT)
    assert (writer.congested, writer.pending) == (False, 20)
    session.locked = set()


# --- the thread's end -----------------------------------------------------------------------------


@pytest.mark.parametrize("error", [SystemExit, StopIteration])
async def test_whatever_a_session_raises_is_the_operations_error(
    writer: Writer, session: FakeSession, error: type[BaseException]
) -> None:
    """As an exception that a future takes and a loop survives; the thread goes on."""
    bad, good = Op("bad"), Op("good")
    session.failures[("bad",)] = [(error(), False)]  # type: ignore[list-item]
    for op in (bad, good):
        writer.submit(op)
        await writer.flushed()
    [results] = bad.results
    assert isinstance(results, RuntimeError)
    assert isinstance(results.__cause__, error)
    assert good.results == ["wrote good"]


class DyingSession(FakeSession):
    """Fails in a way that the writer does not expect."""

    def is_transient(self, error: Exception) -> bool:
        raise SystemExit("the driver's own")


@pytest.mark.parametrize("split", [False, True])
async def test_an_error_that_ends_the_thread_is_reported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, split: bool
) -> None:
    """To all that wait, each once, to later ones and to the writer's owner."""
    session: FakeSession = DyingSession()
    if split:  # some of the batch have their results when it happens
        session.failures["a", "b"] = [(Bad(), False)]
        answers = iter([False])
        monkeypatch.setattr(
            session, "is_transient", lambda error: next(answers) if answers else False
        )
        session.failures["b",] = [(Bad(), False)]
    else:
        session.failures["a", "b"] = [(Bad(), False)]
    faults: list[tuple[str, BaseException]] = []
    ended = asyncio.Event()

    def on_fault(name: str, error: BaseException) -> None:
        faults.append((name, error))
        ended.set()

    writer = Writer("dying", lambda: session)
    writer.start(asyncio.get_running_loop(), on_fault)
    a, b, keyed, last = Op("a"), Op("b"), Op("keyed", key="k"), Op("last")
    session.go.clear()
    writer.submit(Op("first"))
    await asyncio.to_thread(session.held.wait, TIMEOUT)
    for op in (a, b, keyed, last):
        writer.submit(op)
    session.go.set()
    async with asyncio.timeout(TIMEOUT):
        await ended.wait()
        await writer.flushed()
    assert [name for name, _ in faults] == ["dying"]
    assert [len(op.results) for op in (a, b, keyed, last)] == [1, 1, 1, 1]
    assert a.results == (["wrote a"] if split else a.results)
    for op in (b, keyed, last):
        assert isinstance(op.results[0], InterfaceError)
    late = Op("late")
    writer.submit(late)
    await until_answered(late)
    await writer.stop()
    # It can be started again, and its thread works.
    writer._open_session = FakeSession
    writer.start(asyncio.get_running_loop())
    again = Op("again")
    writer.submit(again)
    await writer.stop()
    assert again.results == ["wrote again"]
    safe_logging.flush(TIMEOUT)
    assert "dying: the thread has ended by an error" in caplog.text


async def test_a_writer_that_was_not_started_stops_at_once() -> None:
    """As after a start that has failed before its thread."""
    async with asyncio.timeout(TIMEOUT):
        await Writer("unborn", FakeSession).stop()
