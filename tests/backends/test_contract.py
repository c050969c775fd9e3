"""What tasks do is the same on every backend: real workers, a real Redis, PostgreSQL."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from rail_async_tasks.ids import new_id
from rail_async_tasks.models import TaskExecution, TaskRuntime
from tests.backends.kinds import KINDS
from tests.backends.world import World
from tests.support.client import FINAL, Client
from tests.support.waiting import TIMEOUT

# The others take as long and differ in what carries an id: among the long tests.
SHORT = ("arq",)

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.redis,
    pytest.mark.parametrize(
        "kind",
        [pytest.param(it, marks=[pytest.mark.long] * (it not in SHORT)) for it in KINDS],
        indirect=True,
        scope="module",
    ),
]

CANCEL = "mutation($id: ID!) { cancelTask(id: $id) { status cancelRequested } }"


async def ends(ada: Client, call: str) -> Any:
    return await ada.final(await ada.start(call))


async def waiting(name: str, **columns: Any) -> str:
    """A row that somebody has left behind."""
    now = timezone.now()
    row = await TaskExecution.objects.acreate(
        id=new_id(), name=name, status="pending", queue="default", created_at=now, updated_at=now,
        **{"arguments": {}, **columns},
    )  # fmt: skip
    return str(row.id)


async def until_row(task_id: str, seconds: float = TIMEOUT, **columns: Any) -> TaskExecution:
    async with asyncio.timeout(seconds):
        while True:
            row = await TaskExecution.objects.aget(id=task_id)
            if all(getattr(row, name) == value for name, value in columns.items()):
                return row
            await asyncio.sleep(0.05)


async def test_every_kind_of_argument(ada: Client, world: World) -> None:
    """Arrives as a value of its type."""
    last = await ends(
        ada,
        'echo(number: -7, ratio: 1.5, text: "é\\u0041 \\"", flag: true,'
        ' at: "2026-01-02T03:04:05Z", day: "2026-01-02", price: "1.10",'
        ' key: "0198c0de-0000-7000-8000-000000000001", colour: BLUE,'
        ' point: {x: 1, tags: ["a"]}, points: [{x: 1}, {x: 2, y: 3}])',
    )
    assert last["status"] == "completed", last
    result = last["result"]
    assert result["number"] == "int: -7"
    assert result["price"] == "Decimal: Decimal('1.10')"
    assert result["colour"] == "Colour: <Colour.BLUE: 'blue'>"
    assert result["day"] == "date: datetime.date(2026, 1, 2)"
    assert result["key"].startswith("UUID:")
    assert result["at"].startswith("datetime:")
    assert result["text"] == "str: " + repr('éA "')
    assert result["point"] == "Point: Point(x=1.0, y=0.0, tags=['a'])"
    assert result["points"].startswith("list: [Point(x=1.0")
    assert result["nothing"] == "NoneType: None"


async def test_a_body_in_a_thread(ada: Client, world: World) -> None:
    """With the ORM; the owner is who asked for it."""
    last = await ends(ada, f'groups(name: "{world.kind.name} {time.monotonic_ns()}")')
    assert (last["status"], last["result"]) == ("completed", {"found": 1, "user": "ada"})


async def test_failure_retry_and_timeout(ada: Client, world: World) -> None:
    fallen, flaky, slow = await asyncio.gather(
        ends(ada, "fall"), ends(ada, "flaky"), ends(ada, "slow")
    )
    assert (fallen["errorCode"], fallen["error"]) == ("exception", "as it was told")
    assert (flaky["result"], flaky["attempts"], flaky["retryCount"]) == (3, 3, 2)
    assert (slow["status"], slow["errorCode"]) == ("failed", "timeout")


async def test_a_delay(ada: Client, world: World) -> None:
    """It does not begin before its time, and not much later."""
    due = timezone.now() + timedelta(seconds=1.5)
    task_id = await waiting("backends.add", arguments={"a": 1, "b": 2}, run_after=due)
    row = await until_row(task_id, status="completed")
    assert row.result == 3
    assert row.started_at is not None
    assert timedelta(0) <= row.started_at - due < timedelta(seconds=4)


async def test_cancels(ada: Client, world: World) -> None:
    """What waits never runs; what runs is asked to end, in whatever process."""
    later = timezone.now() + timedelta(hours=1)
    owner = (await TaskExecution.objects.aget(id=await ada.start("add(a: 1, b: 1)"))).owner_id
    waits = await waiting("backends.linger", run_after=later, owner_id=owner)
    assert (await ada.ask(CANCEL, id=waits))["cancelTask"]["status"] == "cancelled"
    for call in ("linger", "lingerInThread"):
        task_id = await ada.start(call)
        await ada.until(task_id, "running")
        answer = (await ada.ask(CANCEL, id=task_id))["cancelTask"]
        assert answer == {"status": "running", "cancelRequested": True}
        last = await ada.final(task_id)
        assert (last["status"], last["errorCode"], last["attempts"]) == (
            "cancelled", "cancelled", 1,
        )  # fmt: skip
    row = await TaskExecution.objects.aget(id=waits)
    assert (row.status, row.attempts) == ("cancelled", 0)


async def test_progress_is_seen_by_whoever_watches(ada: Client, world: World) -> None:
    """In order, with the end last and once."""
    task_id = await ada.start("climb(steps: 10, pause: 0.5)")
    seen = await ada.everything(ada.by_socket(task_id))
    assert [it["status"] for it in seen if it["status"] in FINAL] == ["completed"]
    assert seen[-1]["result"] == 10
    versions = [(it["seq"], it["step"]) for it in seen]
    assert versions == sorted(set(versions))
    assert [it for it in seen if it["status"] == "running" and it["progress"] > 0]


async def test_every_queue_is_served(ada: Client, world: World) -> None:
    """By the usual command with no more said."""
    last = await ends(ada, "where")
    assert last["status"] == "completed"
    if world.workers:
        family = {pid for worker in world.workers for pid in worker.family()}
        assert last["result"] in family


async def test_a_huge_result(ada: Client, world: World) -> None:
    """Within its limit it arrives; beyond, the task fails without a retry."""
    fits, not_ = await asyncio.gather(
        ends(ada, "huge(size: 60000)"), ends(ada, "huge(size: 1100000)")
    )
    assert (fits["status"], len(fits["result"])) == ("completed", 60_000)
    assert (not_["status"], not_["errorCode"]) == ("failed", "result_too_large")


async def test_a_name_that_nobody_knows_waits(ada: Client, world: World) -> None:
    """And hurts nobody: what comes after it runs."""
    task_id = await waiting("backends.not_yet")
    assert (await ends(ada, "add(a: 2, b: 2)"))["result"] == 4
    row = await TaskExecution.objects.aget(id=task_id)
    assert (row.status, row.attempts) == ("pending", 0)
    await row.adelete()


async def test_many(ada: Client, world: World) -> None:
    """Each runs once."""
    ids = await asyncio.gather(*(ada.start(f"add(a: {n}, b: 0)") for n in range(100)))
    for n, task_id in enumerate(ids):
        row = await until_row(task_id, status="completed")
        assert (row.result, row.attempts, row.seq) == (n, 1, 3)


async def test_a_worker_that_is_restarted(ada: Client, world: World) -> None:
    """SIGTERM: what it runs is handed back at no cost of a retry, and goes on in the next one."""
    if not world.workers:
        pytest.skip("The web process does the work; tests/acceptance restarts it.")
    worker = world.workers[-1]
    ids = [await ada.start(call) for call in ("linger", "lingerInThread", "linger")]
    for task_id in ids:
        await ada.until(task_id, "running")
    worker.terminate()
    taken = await asyncio.to_thread(worker.seconds_to_end, 15)
    assert taken < 1 + 3
    assert worker.alarms() == []
    for task_id in ids:
        row = await TaskExecution.objects.aget(id=task_id)
        assert (row.status, row.attempts, row.retry_count) == ("retrying", 1, 0)
    waits = await ada.start("add(a: 1, b: 5)")
    world.work()
    for task_id in ids:
        last = await ada.final(task_id)
        assert (last["status"], last["attempts"], last["retryCount"]) == ("completed", 2, 0)
        assert last["result"] in world.workers[-1].family()
    assert (await ada.final(waits))["result"] == 6


async def test_a_worker_that_is_killed(ada: Client, world: World) -> None:
    """Another one finishes what it ran; one outcome each, one crash."""
    if not world.workers:
        pytest.skip("The web process does the work; tests/faults kills it.")
    ids = [await ada.start("linger") for _ in range(4)]
    for task_id in ids:
        await ada.until(task_id, "running")
    victim = world.workers[-1]
    runtimes = await TaskRuntime.objects.filter(dead=False).acount()
    other = world.work()
    assert other is not None
    async with asyncio.timeout(TIMEOUT):  # it is there, and may judge others in a lease
        while await TaskRuntime.objects.filter(dead=False).acount() <= runtimes:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    began = datetime.now(UTC)
    victim.kill()
    for task_id in ids:
        row = await until_row(task_id, seconds=3 + 10 + 5, status="completed")
        assert (row.attempts, row.crashes, row.retry_count) == (2, 1, 0)
        assert row.completed_at is not None
        assert row.completed_at - began < timedelta(seconds=3 + 10)
