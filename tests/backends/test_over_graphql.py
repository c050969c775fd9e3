"""Tasks that a GraphQL client starts and follows, on every backend: real workers and servers.

The public suite (`test_suite.py`) shows everything else that backends have in common.
"""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from rail_async_tasks.ids import new_id
from rail_async_tasks.models import TaskExecution
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


@pytest.mark.parametrize("call", ["linger", "lingerInThread"])
async def test_a_cancel(ada: Client, world: World, call: str) -> None:
    """A running task is asked to end, in whatever process."""
    task_id = await ada.start(call)
    await ada.until(task_id, "running")
    answer = (await ada.ask(CANCEL, id=task_id))["cancelTask"]
    assert answer == {"status": "running", "cancelRequested": True}
    last = await ada.final(task_id)
    assert (last["status"], last["errorCode"], last["attempts"]) == ("cancelled", "cancelled", 1)


async def test_a_cancel_before_its_time(ada: Client, world: World) -> None:
    """The body never runs."""
    owner = (await TaskExecution.objects.aget(id=await ada.start("add(a: 1, b: 1)"))).owner_id
    now = timezone.now()
    row = await TaskExecution.objects.acreate(
        id=new_id(), name="backends.linger", status="pending", queue="default", arguments={},
        owner_id=owner, created_at=now, updated_at=now, run_after=now + timedelta(hours=1),
    )  # fmt: skip
    assert (await ada.ask(CANCEL, id=str(row.id)))["cancelTask"]["status"] == "cancelled"
    await ada.final(await ada.start("add(a: 1, b: 1)"))
    await row.arefresh_from_db()
    assert (row.status, row.attempts) == ("cancelled", 0)


async def test_progress_reaches_the_browser(ada: Client, world: World, tmp_path: Path) -> None:
    """In order, with the end last and once."""
    task_id = await ada.start(f'climb(steps: 4, pause: 0, seen: "{tmp_path}")')
    seen = await ada.confirmed(ada.by_socket(task_id), tmp_path)
    assert [it["status"] for it in seen if it["status"] in FINAL] == ["completed"]
    assert seen[-1]["result"] == 4
    versions = [(it["seq"], it["step"]) for it in seen]
    assert versions == sorted(set(versions))
    assert [it for it in seen if it["status"] == "running" and it["progress"] > 0]


async def test_a_worker_that_is_restarted(ada: Client, world: World) -> None:
    """SIGTERM: what it runs is handed back at no cost of a retry, and goes on in the next one."""
    if not world.workers:
        pytest.skip("The web process does the work; tests/acceptance restarts it.")
    worker = world.workers[-1]
    ids = [await ada.start(call) for call in ("linger", "lingerInThread", "linger")]
    for task_id in ids:
        await ada.until(task_id, "running")
    worker.terminate()
    await asyncio.to_thread(worker.wait, TIMEOUT)  # what it runs never ends
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
