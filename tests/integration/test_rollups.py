"""Roll-ups: their sums are those of the rows, over processes, retries and failures to write."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError

from rail_async_tasks import service, task
from rail_async_tasks.access import SYSTEM
from rail_async_tasks.hosting import process as host
from rail_async_tasks.hosting.making import make_ledger
from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.orm.rollups import OrmRollups
from rail_async_tasks.ledger.rollups import KEPT, CommitUnknown, Rollups
from rail_async_tasks.models import ErrorRollup, TaskExecution, TaskRollup
from rail_async_tasks.rollups.columns import COUNTS, RUNS, WAITS
from rail_async_tasks.runtime.event_counts import EventCounts
from rail_async_tasks.runtime.rollups import MOST_CELLS, RollupCounter
from rail_async_tasks.runtime.upkeep.rollup_writer import RollupWriter
from rail_async_tasks.service import statistics
from rail_async_tasks.snapshot import TaskSnapshot
from tests.support.runtimes import DATABASES, Configure
from tests.support.timings import Timings
from tests.support.waiting import final

on_mariadb = pytest.param("mariadb", marks=pytest.mark.mariadb)
pytestmark = [
    pytest.mark.turns("store"),
    pytest.mark.usefixtures("ends_cleanly"),
    pytest.mark.parametrize("store", [*DATABASES, on_mariadb], indirect=True),
]

HERE = "tests/integration/test_rollups.py"


def ended(status: str = "completed", name: str = "a", **fields: Any) -> TaskSnapshot:
    """An execution that has ended in the last minute, after a second of the same minute."""
    at = (datetime.now(UTC) - timedelta(minutes=1)).replace(second=30)
    values: dict[str, Any] = {
        "id": new_id(), "name": name, "status": status, "queue": "default",
        "created_at": at - timedelta(seconds=2), "started_at": at - timedelta(seconds=1),
        "updated_at": at, "attempts": 1,
    }  # fmt: skip
    return TaskSnapshot(**(values | fields))


def counter_of(*snapshots: TaskSnapshot, traceback: str | None = None) -> RollupCounter:
    """A process's counts of these."""
    counter = RollupCounter()
    counter.open()
    counts = EventCounts([counter])
    for it in snapshots:
        counts.started(it)
        counts.ended(it, 1.0, traceback)
    counts.count_now()
    return counter


def the_rollups() -> OrmRollups:
    """Those of the ledger, whose threads run."""
    found = host.ledger().rollups()
    assert isinstance(found, OrmRollups)
    return found


async def started() -> None:
    """Starts the runtime, and with it the ledger's threads."""
    await host.aruntime()


async def sums(span: int = 60) -> Counter[str]:
    """All counts of one span, added up."""
    total: Counter[str] = Counter()
    async for row in TaskRollup.objects.filter(span=span):
        total.update({column: getattr(row, column) for column in COUNTS})
    return total


def of(total: Counter[str], *columns: str) -> tuple[int, ...]:
    return tuple(total[it] for it in columns)


async def test_sums_are_those_of_the_rows(configure: Configure) -> None:
    """Each outcome, each retry, a wait per execution and a run per attempt, in every span."""
    configure(max_retries=2, retry_delay=0, retry_jitter=0)

    @task(name="rollups.ok")
    async def ok() -> None: ...

    @task(name="rollups.bad")
    async def bad() -> None:
        raise KeyError("no")

    @task(name="rollups.flaky")
    async def flaky(info: Any) -> None:
        if info.context.task.attempt == 1:
            raise ValueError("once")

    choice = random.Random(7)
    kinds = [choice.choice([ok, bad, flaky]) for _ in range(120)]
    queues = [choice.choice(["high", "default", "low"]) for _ in kinds]
    pairs = zip(kinds, queues, strict=True)
    handles = [await it.using(queue=queue).aenqueue() for it, queue in pairs]
    later = await ok.using(delay=3600).aenqueue()
    await service.acancel(SYSTEM, later.id)
    for handle in handles:
        await final(handle)
    await host.astop()
    rows = [it async for it in TaskExecution.objects.all()]
    statuses = Counter(it.status for it in rows)
    retries = sum(it.retry_count for it in rows)
    attempts = sum(it.attempts for it in rows)
    for span in KEPT:
        total = await sums(span)
        assert of(total, "completed", "failed", "cancelled", "retried") == (
            statuses["completed"], statuses["failed"], 1, retries,
        )  # fmt: skip
        assert sum(of(total, *WAITS)) == len(handles)
        assert sum(of(total, *RUNS)) == attempts
    # In the minute in which the row says that it ended, by queue and name.
    minutes: Counter[tuple[int, str, str]] = Counter()
    for it in rows:
        assert it.completed_at is not None
        minutes[int(it.completed_at.timestamp()) // 60 * 60, it.name, it.queue] += 1
    stored = {
        (it.start, it.name, it.queue): it.completed + it.failed + it.cancelled  # type: ignore[attr-defined]
        async for it in TaskRollup.objects.filter(span=60)
    }
    assert {key: count for key, count in stored.items() if count} == dict(minutes)


async def test_errors_are_grouped_by_class_and_place(configure: Configure) -> None:
    """As the rows have both; a message that differs makes no new group."""
    configure(max_retries=1, retry_delay=0)

    @task(name="rollups.first")
    async def first(n: int) -> None:
        raise KeyError(n)

    @task(name="rollups.timed", timeout=0.01, max_retries=0)
    async def timed() -> None:
        await asyncio.sleep(60)

    handles = [await first.aenqueue(n=n) for n in range(5)] + [await timed.aenqueue()]
    for handle in handles:
        await final(handle)
    place = {it.error_place async for it in TaskExecution.objects.filter(name="rollups.first")}
    assert len(place) == 1
    assert str(next(iter(place))).startswith(f"{HERE}:")
    await host.astop()
    groups = await sync_to_async(statistics.errors)()
    assert groups is not None
    found = {it.error: it for it in groups}
    assert set(found) == {"KeyError", "TimeoutError"}
    key = found["KeyError"]
    assert (key.failed, key.retried, key.lately) == (5, 5, 10)
    assert ({key.place}, list(key.names)) == (place, ["rollups.first"])
    assert key.example_id in {str(it.id) for it in handles[:5]}
    assert key.first_at <= key.last_at
    # A timeout has the place where the body hung.
    assert found["TimeoutError"].failed == 1
    assert found["TimeoutError"].place.endswith(" in timed")


async def test_a_retry_that_runs_has_no_place(configure: Configure) -> None:
    """The place goes with the error, when the next attempt begins."""
    configure(max_retries=1, retry_delay=0)

    @task(name="rollups.once")
    async def once(info: Any) -> None:
        if info.context.task.attempt == 1:
            raise KeyError("no")

    handle = await once.aenqueue()
    await final(handle)
    row = await TaskExecution.objects.aget(id=handle.id)
    assert (row.status, row.error_place) == ("completed", None)


async def test_two_processes_add_up() -> None:
    """Whatever they write at once: a row that the other has locked is written again."""
    choice = random.Random(11)
    expected: Counter[str] = Counter()

    async def write() -> None:
        ledger, counter = make_ledger(), RollupCounter()  # threads and connections of its own
        ledger.start()
        rollups = ledger.rollups()
        assert rollups is not None
        counter.open()
        counts = EventCounts([counter])
        writer = RollupWriter(rollups=rollups, counter=counter)
        for _ in range(10):
            for _ in range(choice.randrange(1, 5)):
                status = choice.choice(["completed", "failed", "cancelled"])
                code = "x" if status == "failed" else None
                it = ended(status, name=choice.choice("abc"), error_code=code)
                counts.started(it)
                counts.ended(it, choice.random(), None)
                counts.count_now()
                expected[status] += 1
            await writer.write()
        await writer.close()
        await ledger.stop()

    await asyncio.gather(write(), write())
    for span in KEPT:
        assert +Counter({it: (await sums(span))[it] for it in expected}) == expected
    errors = [it async for it in ErrorRollup.objects.all()]
    assert sum(it.failed for it in errors) == expected["failed"]


class Failing(Rollups):  # type: ignore[misc]
    """Roll-ups whose next writes end as given."""

    def __init__(self, rollups: Rollups, *ends: BaseException | bool) -> None:
        self._rollups = rollups
        self._ends = list(ends)

    async def add(self, batch: Any) -> bool:
        end = self._ends.pop(0) if self._ends else True
        if isinstance(end, BaseException):
            raise end
        return await self._rollups.add(batch) if end else False


async def test_what_could_not_be_written_is_written_later() -> None:
    """While the database is away, or another process has a row locked."""
    await started()
    rollups = the_rollups()
    counter = counter_of(ended(), ended("failed", error_code="exception", error_type="KeyError"))
    writer = RollupWriter(
        rollups=Failing(rollups, OperationalError("away"), False), counter=counter
    )
    assert await writer.write()
    assert not await writer.write()
    assert await writer.write()
    assert of(await sums(), "completed", "failed") == (1, 1)
    assert (await ErrorRollup.objects.aget()).failed == 1
    assert not counter.take()


async def test_an_unanswered_commit_counts_at_most_once() -> None:
    """The batch may be stored: it is dropped, with a line in the log."""
    await started()
    counter = counter_of(ended())
    writer = RollupWriter(rollups=Failing(the_rollups(), CommitUnknown()), counter=counter)
    assert await writer.write()
    assert not counter.take()


async def test_a_commit_that_fails_is_an_unanswered_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error before the COMMIT leaves nothing stored, an error of the COMMIT itself may."""
    await started()
    rollups = the_rollups()
    batch = counter_of(ended()).take()

    async def committed(change: Any, otherwise: Any) -> Any:
        change()
        raise OperationalError("lost")

    async def refused(change: Any, otherwise: Any) -> Any:
        raise OperationalError("lost")

    monkeypatch.setattr(rollups._threads, "change_once", refused)
    with pytest.raises(OperationalError):
        await rollups.add(batch)
    writes: list[Any] = []
    monkeypatch.setattr("rail_async_tasks.ledger.orm.rollups.upsert", lambda *a: writes.append(a))
    monkeypatch.setattr(rollups._threads, "change_once", committed)
    with pytest.raises(CommitUnknown):
        await rollups.add(batch)
    assert len(writes) == 2
    monkeypatch.undo()


async def test_handed_back_and_later_attempts() -> None:
    """An attempt that a shutdown ended is no outcome; only the first attempt has waited."""
    await started()
    again = ended(attempts=2)
    back = msgspec.structs.replace(again, id=new_id(), status="retrying", attempts=1)  # one minute
    counter = counter_of(again, back)
    batch = counter.take()
    (cell,) = batch.tasks
    total = dict(zip(COUNTS, cell.counts, strict=True))
    assert (total["completed"], total["retried"]) == (1, 0)
    assert sum(total[it] for it in WAITS) == 1  # that of the attempt that was handed back
    assert sum(total[it] for it in RUNS) == 1


async def test_memory_is_bounded() -> None:
    """While the database is away for hours, and counts can't be written."""
    await started()
    counter = counter_of(*(ended(name=str(n)) for n in range(MOST_CELLS + 100)))
    assert len(counter.take().tasks) == MOST_CELLS


async def test_old_rows_are_deleted(timings: Timings) -> None:
    """Each span after its time, errors with the longest."""
    timings.set("cleanup", interval=1e6)  # no round of the runtime's own comes before
    await started()
    rollups = the_rollups()
    now = int(await sync_to_async(rollups.now)())
    for span, kept in KEPT.items():
        for age in (kept + 60, kept - 60):
            await TaskRollup.objects.acreate(
                id=new_id(), span=span, start=now - age, name="a", queue="default"
            )
    for age in (KEPT[3600] + 60, 0):
        await ErrorRollup.objects.acreate(
            id=new_id(), start=now - age, name="a", error="E", place="", first_at=0, last_at=0,
            example_id=new_id(),
        )  # fmt: skip
    assert await rollups.delete_old(3) == 3
    assert await rollups.delete_old(500) == 1
    assert await rollups.delete_old(500) == 0
    assert await TaskRollup.objects.acount() == len(KEPT)
    assert await ErrorRollup.objects.acount() == 1


async def test_nothing_is_counted_where_it_is_off(configure: Configure) -> None:
    """`statistics_enabled` off: no observer, no writer, no row."""
    configure(statistics_enabled=False)

    @task(name="rollups.off")
    async def off() -> None: ...

    await final(await off.aenqueue())
    await host.astop()
    assert await TaskRollup.objects.acount() == 0


async def test_series_and_their_percentiles(configure: Configure) -> None:
    """What charts and counters show is what was counted, to the bucket."""
    await started()
    rollups = the_rollups()
    for number in range(20):
        queue = "high" if number % 2 else "low"
        await rollups.add(counter_of(ended(queue=queue)).take())
    found = await sync_to_async(statistics.charts)(statistics.WINDOWS["hour"], "queue")
    assert found is not None
    assert (found.whole.total.completed, len(found.starts)) == (20, 60)
    assert {it.key: it.total.completed for it in found.parts} == {"high": 10, "low": 10}
    narrowed = await sync_to_async(statistics.charts)(
        statistics.WINDOWS["hour"], "name", queue="high"
    )
    assert narrowed is not None
    assert narrowed.whole.total.completed == 10
