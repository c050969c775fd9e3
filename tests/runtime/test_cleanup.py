"""The clean-up: rounds in their time, batches with pauses, and an end at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count

import pytest
from django.db import OperationalError

from rail_async_tasks.ledger.memory.ledger import MemoryLedger
from rail_async_tasks.ledger.records import Outcome
from rail_async_tasks.runtime.upkeep.cleanup import Cleaner, CleanupTimings
from rail_async_tasks.states import Status
from tests.support.clock import FakeClock
from tests.support.ledgers import claimed_at_birth, new_execution


def expired(ledger: MemoryLedger, number: int) -> None:
    """Rows that ended with a time to live of a second."""
    for _ in range(number):
        new = claimed_at_birth()
        ledger.create_here(new)
        assert new.token is not None
        ledger.settle_here(
            Outcome(id=new.id, token=new.token, status=Status.COMPLETED, progress=100, ttl=1.0)
        )


class Deletions(MemoryLedger):
    """Counts its batches, and answers as the test wants it to."""

    def __init__(self, answer: Callable[[int], int] | None = None, seconds: float = 0.0) -> None:
        super().__init__()
        self.answer = answer
        self.seconds = seconds
        self.began: list[float] = []
        self.error: Exception | None = None
        self.hangs = False

    async def delete_expired(self, limit: int) -> int:
        self.began.append(asyncio.get_running_loop().time())
        if self.hangs:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        await asyncio.sleep(self.seconds)
        return 0 if self.answer is None else self.answer(limit)


class Days:
    """An audit log that deletes one row, once."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, int]] = []

    async def delete(self, days: float, limit: int) -> int:
        self.asked.append((days, limit))
        return 0


async def test_all_that_has_expired_is_deleted_in_batches(
    ledger: MemoryLedger, clock: FakeClock
) -> None:
    """Nothing else is."""
    expired(ledger, 5)
    waiting = new_execution()
    ledger.create_here(waiting)
    clock.jump(2)
    cleaner = Cleaner(deletions=ledger, batch=2)
    task = asyncio.create_task(cleaner.clean())
    await clock.settle()
    assert len(ledger) == 4
    await clock.advance(0.2)
    assert task.done()
    assert list(ledger.store.rows) == [waiting.id]


async def test_old_audit_rows_are_deleted(ledger: MemoryLedger) -> None:
    """Where there is an audit, after its days."""
    days = Days()
    await Cleaner(deletions=ledger, audit_log=days, events_days=30.0, batch=7).clean()
    assert days.asked == [(30.0, 7)]


async def test_rounds_come_at_random_times(clock: FakeClock) -> None:
    """Processes that were started together must not come together. The first round comes early."""
    deletions = Deletions()
    chosen = iter([0.25, 1.25, 0.75, 1.0])
    asked: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        asked.append((low, high))
        return next(chosen)

    cleaner = Cleaner(
        deletions=deletions, uniform=uniform, timings=CleanupTimings(interval=60.0, jitter=0.25)
    )
    began = clock.monotonic()
    task = asyncio.create_task(cleaner.run())
    await clock.advance(140)
    assert [at - began for at in deletions.began] == pytest.approx([15.0, 90.0, 135.0])
    assert asked[:2] == [(0, 0.5), (0.75, 1.25)]
    cleaner.stop()
    await task


async def test_it_pauses_for_several_times_as_long_as_a_batch_took(clock: FakeClock) -> None:
    """Deletions use at most a fifth of the writer."""
    numbers = count(1)
    deletions = Deletions(lambda limit: limit if next(numbers) < 3 else 0, seconds=0.5)
    task = asyncio.create_task(Cleaner(deletions=deletions).clean())
    await clock.advance(10)
    assert task.done()
    first, second, third = deletions.began
    assert second - first == third - second == 2.5


async def test_a_round_that_fails_is_no_end(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged once, and so is the recovery."""
    deletions = Deletions()
    deletions.error = OperationalError("away")
    cleaner = Cleaner(deletions=deletions)
    task = asyncio.create_task(cleaner.run())
    await clock.advance(300)
    assert len(deletions.began) >= 3
    deletions.error = None
    await clock.advance(100)
    assert "Expired tasks could not be deleted: away" in caplog.text
    assert "Expired tasks could not be deleted: over" in caplog.text
    cleaner.stop()
    await task


@pytest.mark.parametrize("busy", ["pause", "hanging batch", "full batches"])
async def test_a_stop_ends_it_at_once(clock: FakeClock, busy: str) -> None:
    """Also while the database does not answer."""
    deletions = Deletions(lambda limit: limit)
    deletions.hangs = busy == "hanging batch"
    cleaner = Cleaner(deletions=deletions)
    task = asyncio.create_task(cleaner.run())
    await clock.advance(0 if busy == "pause" else 31)
    cleaner.stop()
    await clock.settle()
    assert task.done()
