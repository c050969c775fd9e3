"""Admission: `max_pending`, `max_pending_per_owner`, `rate_limit`, limits of anonymous callers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from rail_async_tasks import Task, errors, service, task
from rail_async_tasks.access import SYSTEM, Viewer
from rail_async_tasks.hosting import process as host
from rail_async_tasks.runtime import admission, anonymous_starts, limits
from rail_async_tasks.service import EnqueueOptions
from rail_async_tasks.snapshot import TaskSnapshot
from tests.support.runtimes import Configure
from tests.support.waiting import TIMEOUT, eventually

pytestmark = [pytest.mark.usefixtures("ends_cleanly"), pytest.mark.turns("store")]

LATER = 3600.0


def declared() -> Task:
    @task(name="admission.noop")
    async def noop() -> None: ...

    return noop


async def later(noop: Task, owner: str | None = None, **options: Any) -> TaskSnapshot:
    """Starts one that waits for an hour."""
    chosen = EnqueueOptions(delay=LATER, owner_id=owner, **options)
    return await service.aenqueue(noop.definition, {}, chosen)


async def test_no_more_wait_than_may(store: str, configure: Configure) -> None:
    """Delayed ones count; the one over the limit is refused and leaves no row."""
    configure(max_pending=3)
    noop = declared()
    for _ in range(3):
        await later(noop)
    with pytest.raises(errors.QueueFull) as refused:
        await later(noop)
    assert refused.value.extensions == {"retryAfter": 1, "code": "QUEUE_FULL"}
    assert len(await service.alist(SYSTEM)) == 3


async def test_one_owner_does_not_fill_the_queue_for_others(
    store: str, configure: Configure
) -> None:
    """The limit per owner counts theirs alone, and none of what has no owner."""
    configure(max_pending_per_owner=2)
    noop = declared()
    for _ in range(2):
        await later(noop, "1")
    with pytest.raises(errors.QueueFull):
        await later(noop, "1")
    await later(noop, "2")
    for _ in range(3):
        await later(noop)


async def test_a_crowd_at_once_gets_no_more_in(store: str, configure: Configure) -> None:
    """Creations that are on their way count before they are rows."""
    configure(max_pending=5, max_pending_per_owner=3)
    noop = declared()
    results = await asyncio.gather(*[later(noop, "1") for _ in range(50)], return_exceptions=True)
    assert sum(isinstance(it, errors.QueueFull) for it in results) == 47
    assert len(await service.alist(SYSTEM)) == 3


async def test_room_comes_back(
    store: str, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancelled task makes place, at the next count."""
    monkeypatch.setattr(admission, "COUNT_INTERVAL", 3600.0)
    configure(max_pending=1)
    noop = declared()
    first = await later(noop)
    with pytest.raises(errors.QueueFull):
        await later(noop)
    await service.acancel(SYSTEM, first.id)
    with pytest.raises(errors.QueueFull):  # counted less than an interval ago
        await later(noop)
    monkeypatch.setattr(admission, "COUNT_INTERVAL", 0.0)
    await later(noop)


async def test_what_runs_does_not_count(store: str, configure: Configure) -> None:
    """Only what waits does: ten times the limit may run one after the other."""
    configure(max_pending=2)
    noop = declared()
    for _ in range(20):
        handle = await noop.aenqueue()
        await handle.aresult(TIMEOUT)


async def test_a_cancelled_caller_leaves_its_place(store: str, configure: Configure) -> None:
    """However far the caller had come, its place is free afterwards."""
    configure(max_pending=1)
    noop = declared()
    for _ in range(20):
        starting = asyncio.ensure_future(later(noop))
        await asyncio.sleep(0)
        starting.cancel()
        await asyncio.wait([starting])
        for left in await service.alist(SYSTEM, status="pending"):
            await service.acancel(SYSTEM, left.id)
    await eventually(lambda: not host.admission()._entering)


async def test_starts_are_limited_by_owner(store: str, configure: Configure) -> None:
    """Also what has finished counts; another owner and the project's own code are free."""
    configure(rate_limit="3/h")
    noop = declared()
    began = time.monotonic()
    for _ in range(3):
        handle = await noop.using(owner=USER).aenqueue()
        await handle.aresult(TIMEOUT)
    with pytest.raises(errors.RateLimited) as refused:
        await noop.using(owner=USER).aenqueue()
    assert 3598 - (time.monotonic() - began) <= refused.value.retry_after <= 3600
    await later(noop, "2")
    for _ in range(5):
        await noop.aenqueue()
    assert len(await service.alist(Viewer("7"))) == 3


async def test_those_without_a_name_share_a_rate(store: str, configure: Configure) -> None:
    """Callers who do not say who they are count together."""
    configure(rate_limit="2/h")
    noop = declared()
    for _ in range(2):
        await later(noop, anonymous=True)
    with pytest.raises(errors.RateLimited):
        await later(noop, anonymous=True)
    await later(noop)


async def test_a_rate_holds_under_a_crowd(store: str, configure: Configure) -> None:
    """Fifty starts at once: never more than the rate."""
    configure(rate_limit="5/h")
    noop = declared()
    results = await asyncio.gather(*[later(noop, "1") for _ in range(50)], return_exceptions=True)
    assert sum(isinstance(it, TaskSnapshot) for it in results) == 5
    await asyncio.gather(*[later(noop, "2") for _ in range(5)])


async def test_code_that_is_not_async_is_limited_alike(store: str, configure: Configure) -> None:
    """From a thread, and for a retry."""
    configure(max_pending=1, rate_limit="2/h")
    noop = declared()
    await later(noop, "1")

    def start() -> None:
        noop.using(owner=USER, delay=LATER).enqueue()

    with pytest.raises(errors.QueueFull):
        await sync_to_async(start)()


async def test_a_retry_is_a_start(store: str, configure: Configure) -> None:
    """It counts for the owner's rate."""
    configure(rate_limit="2/h")
    noop = declared()
    handle = await noop.using(owner=USER).aenqueue()
    await handle.aresult(TIMEOUT)
    again = await service.aretry(Viewer("7"), handle.id)
    with pytest.raises(errors.RateLimited):
        await service.aretry(Viewer("7"), handle.id)
    assert again.parent_id is not None


async def flood(noop: Task, times: int, address: str | None) -> list[TaskSnapshot]:
    """Starts as an anonymous caller until one is refused, `times` at most."""
    found: list[TaskSnapshot] = []
    with contextlib.suppress(errors.QueueFull):
        for _ in range(times):
            found.append(await later(noop, anonymous=True, address=address))
    return found


async def test_one_anonymous_address_does_not_fill_the_queue(
    store: str, configure: Configure
) -> None:
    """Past its limit it is refused, with the limit's name; others and the project's code go on."""
    configure(limits={"anonymous_pending_per_address": 5})
    noop = declared()
    assert len(await flood(noop, 20, "a")) == 5
    with pytest.raises(errors.QueueFull) as refused:
        await later(noop, anonymous=True, address="a")
    assert 'limits["anonymous_pending_per_address"] allows: 5' in str(refused.value)
    assert refused.value.extensions == {"retryAfter": 1, "code": "QUEUE_FULL"}
    assert len(await service.alist(SYSTEM)) == 5
    await later(noop, anonymous=True, address="b")
    await later(noop, "1")
    await later(noop)


async def test_an_address_has_room_once_its_tasks_have_run(
    store: str, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked of the ledger at most once a second; what has ended counts no more."""
    monkeypatch.setattr(anonymous_starts, "COUNT_INTERVAL", 0.0)
    configure(limits={"anonymous_pending_per_address": 3})
    noop = declared()
    for _ in range(10):
        snapshot = await service.aenqueue(
            noop.definition, {}, EnqueueOptions(anonymous=True, address="a")
        )
        await noop_ended(snapshot)
    waiting = await flood(noop, 5, "a")
    assert len(waiting) == 3
    await service.acancel(SYSTEM, waiting[0].id)
    assert len(await flood(noop, 5, "a")) == 1


async def noop_ended(snapshot: TaskSnapshot) -> None:
    async for it in service.watch(SYSTEM, snapshot.id):
        if it.is_final:
            return


async def test_a_crowd_of_one_address_gets_no_more_in(store: str, configure: Configure) -> None:
    """Starts on their way count before they are rows."""
    configure(limits={"anonymous_pending_per_address": 5})
    noop = declared()
    starts = [later(noop, anonymous=True, address="a") for _ in range(50)]
    results = await asyncio.gather(*starts, return_exceptions=True)
    assert sum(isinstance(it, TaskSnapshot) for it in results) == 5


async def test_anonymous_callers_leave_a_share_of_the_queue(
    store: str, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From wherever they come; a small queue has no share."""
    monkeypatch.setattr(limits, "MIN_SHARED", 10)
    configure(max_pending=10)
    noop = declared()
    assert len(await flood(noop, 20, None)) == 8
    with pytest.raises(errors.QueueFull, match='limits\\["anonymous_pending_percent"\\]'):
        await later(noop, anonymous=True, address="another")
    await later(noop, "1")
    await later(noop)
    with pytest.raises(errors.QueueFull, match="Too many tasks are waiting"):
        await later(noop, "1")


async def test_a_small_queue_is_for_everybody(store: str, configure: Configure) -> None:
    """With fewer than 1,000 places none is kept."""
    configure(max_pending=5)
    assert len(await flood(declared(), 20, "a")) == 5


class USER:
    """An owner, as `using` takes one."""

    pk = 7
    is_authenticated = True
