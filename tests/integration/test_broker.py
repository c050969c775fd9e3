"""A backend that carries ids: what is sent, what is brought, and what becomes of both."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db.models import F
from django.utils import timezone

from rail_async_tasks import Retry, Task, backends, service, task
from rail_async_tasks.access import SYSTEM
from rail_async_tasks.backends.broker import BrokerBackend
from rail_async_tasks.conf import get_settings
from rail_async_tasks.hosting import process as host
from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.dispatch_records import Dispatch
from rail_async_tasks.ledger.orm.dispatches import OrmDispatches
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.workers.delivery import adeliver
from tests.support.runtimes import Configure, on_databases
from tests.support.timings import Timings
from tests.support.waiting import TIMEOUT, eventually, final

pytestmark = [on_databases, pytest.mark.usefixtures("ends_cleanly")]


class ListBroker(BrokerBackend):
    """Its broker is a list; it delivers on request, or at once."""

    name = "tests.integration.test_broker.ListBroker"

    def __init__(self) -> None:
        self.sent: list[Dispatch] = []
        self.down = False
        self.hangs = False
        self.delivers = True
        self.closed = 0
        self._deliveries: set[asyncio.Task[None]] = set()

    async def push(self, dispatches: Sequence[Dispatch]) -> None:
        if self.hangs:
            await asyncio.sleep(3600)
        if self.down:
            raise ConnectionError("no broker is there")
        self.sent += dispatches
        if self.delivers:
            for dispatch in dispatches:
                self.deliver(str(dispatch.id))

    def deliver(self, what: Any) -> asyncio.Task[None]:
        delivery = asyncio.ensure_future(adeliver(what))
        self._deliveries.add(delivery)
        delivery.add_done_callback(self._deliveries.discard)
        return delivery

    async def aclose(self) -> None:
        self.closed += 1


@pytest.fixture
async def broker(configure: Configure) -> AsyncIterator[ListBroker]:
    configure(backend=ListBroker.name)
    backends._backend.cache_clear()
    found = backends.get_backend(get_settings())
    assert isinstance(found, ListBroker)
    yield found
    backends._backend.cache_clear()


def adds() -> Task:
    @task(name="broker.add")
    async def add(a: int, b: int) -> int:
        await asyncio.sleep(0)
        return a + b

    return add


async def row(task_id: Any) -> TaskExecution:
    return await TaskExecution.objects.aget(id=task_id)


@pytest.fixture
def two_looks(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Awaitable[None]]:
    """Returns once the dispatcher has looked twice for rows to send."""
    looks = 0
    send = OrmDispatches.send

    async def counted(self: OrmDispatches, *args: Any) -> list[Dispatch]:
        nonlocal looks
        found = await send(self, *args)
        looks += 1
        return found

    async def wait() -> None:
        enough = looks + 3  # one may have begun before
        await eventually(lambda: looks >= enough)

    monkeypatch.setattr(OrmDispatches, "send", counted)
    return wait


async def until_rows(count: int, **conditions: Any) -> None:
    """Returns once so many rows meet these."""
    rows = TaskExecution.objects.filter(**conditions)

    async def are_so_many() -> bool:
        return await rows.acount() == count

    await eventually(are_so_many)


async def test_an_execution_is_sent_claimed_and_run(store: str, broker: ListBroker) -> None:
    """The broker gets its id and queue; a dispatched row has the time and the sender."""
    broker.delivers = False
    handle = await adds().aenqueue(a=1, b=2)
    await eventually(lambda: broker.sent)
    assert [(it.id, it.queue, it.number) for it in broker.sent] == [(handle.id, "default", 1)]
    waiting = await row(handle.id)
    assert (waiting.status, waiting.dispatched_to, waiting.dispatches) == (
        "pending", ListBroker.name, 1,
    )  # fmt: skip
    assert waiting.dispatched_at is not None
    await broker.deliver(str(handle.id))
    done = await row(handle.id)
    assert (done.status, done.result, done.attempts, done.seq) == ("completed", 3, 1, 3)
    assert done.dispatched_at is None


async def test_a_delivery_that_comes_twice_runs_once(store: str, broker: ListBroker) -> None:
    """At once, later, and after the end."""
    broker.delivers = False
    runs: list[int] = []
    go = asyncio.Event()

    @task(name="broker.counted")
    async def counted() -> None:
        runs.append(1)
        await go.wait()

    handle = await counted.aenqueue()
    deliveries = [broker.deliver(str(handle.id)) for _ in range(50)]
    await eventually(lambda: runs)
    deliveries.append(broker.deliver(str(handle.id)))
    await asyncio.wait(deliveries[1:-1])
    go.set()
    await asyncio.wait(deliveries)
    await broker.deliver(str(handle.id))
    assert (len(runs), (await row(handle.id)).attempts) == (1, 1)
    runtime = host.current()
    assert runtime is not None
    assert runtime.statistics()["refused"] == 51


@pytest.mark.parametrize(
    "forged",
    ["", "no id", "os.system", b"\x80\x04cos\nsystem\n(S'true'\ntR.", None, {"id": 1}, 7, "../x"],
)
async def test_what_is_no_id_is_dropped(
    store: str, broker: ListBroker, forged: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A message can name a task that waits, and do nothing else."""
    await final(await adds().aenqueue(a=1, b=1))
    caplog.clear()
    await broker.deliver(forged)
    assert "is no task's id" in caplog.text
    await broker.deliver(str(new_id()))
    assert await TaskExecution.objects.acount() == 1


async def test_retries_and_delays_come_from_the_ledger(store: str, broker: ListBroker) -> None:
    """The broker is sent each attempt when it is due, and knows of no delay."""

    @task(name="broker.again", max_retries=2)
    async def again(info: Any) -> int:
        if info.context.task.attempt < 3:
            raise Retry(delay=0.05)
        return int(info.context.task.attempt)

    before = timezone.now()
    handle = await again.using(delay=0.3).aenqueue()
    await eventually(lambda: broker.sent)
    assert timezone.now() - before > timedelta(seconds=0.25)
    snapshot = await final(handle)
    assert (snapshot.result, snapshot.attempts, snapshot.retry_count) == (3, 3, 2)
    assert [it.number for it in broker.sent] == [1, 2, 3]


async def test_cancels(store: str, broker: ListBroker) -> None:
    """A waiting task never runs, though it is under way; a running one is asked to end."""
    broker.delivers = False
    began = asyncio.Event()

    @task(name="broker.linger")
    async def linger() -> None:
        began.set()
        await asyncio.sleep(3600)

    waits, runs = await linger.aenqueue(), await linger.aenqueue()
    await eventually(lambda: len(broker.sent) == 2)
    await service.acancel(SYSTEM, waits.id)
    await broker.deliver(str(waits.id))
    assert not began.is_set()
    assert (await row(waits.id)).dispatched_at is None
    delivery = broker.deliver(str(runs.id))
    await began.wait()
    await service.acancel(SYSTEM, runs.id)
    await asyncio.wait_for(delivery, TIMEOUT)
    assert [(await row(it.id)).status for it in (waits, runs)] == ["cancelled"] * 2


@pytest.mark.parametrize("how", ["down", "hangs"])
async def test_a_broker_that_is_away(
    store: str, broker: ListBroker, how: str, caplog: pytest.LogCaptureFixture,
    timings: Timings,
) -> None:  # fmt: skip
    """A start is answered all the same, and sent when the broker is back; one WARNING says so."""
    timings.set("broker", push_timeout=0.2)
    setattr(broker, how, True)
    caplog.set_level(logging.WARNING)
    add = adds()
    async with asyncio.timeout(TIMEOUT):
        handles = [await add.aenqueue(a=1, b=number) for number in range(5)]
    await eventually(lambda: "does not take tasks" in caplog.text)
    await until_rows(5, dispatched_at=None)
    setattr(broker, how, False)
    for number, handle in enumerate(handles):
        assert (await final(handle)).result == 1 + number
    assert caplog.text.count("does not take tasks") == 1
    await eventually(lambda: "takes tasks again" in caplog.text)


@pytest.mark.parametrize("error", [SystemExit, asyncio.CancelledError])
async def test_a_push_that_raises_the_worst(
    store: str, broker: ListBroker, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    """Neither the loop nor the dispatcher ends by it: the push is tried again."""
    push, failures = broker.push, [error, error]

    async def fail_twice(dispatches: Sequence[Dispatch]) -> None:
        if failures:
            raise failures.pop()
        await push(dispatches)

    monkeypatch.setattr(broker, "push", fail_twice)
    handle = await adds().aenqueue(a=1, b=2)
    assert (await final(handle)).result == 3
    assert failures == []


async def test_a_broker_that_cannot_say_what_it_has(
    store: str,
    broker: ListBroker,
    monkeypatch: pytest.MonkeyPatch,
    timings: Timings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is asked again later, and is sent to all the same; one WARNING says so."""
    asked: list[int] = []

    async def missing(dispatches: Sequence[Dispatch]) -> Sequence[Dispatch]:
        asked.append(len(dispatches))
        raise NotImplementedError("no such command")

    monkeypatch.setattr(ListBroker, "missing", missing, raising=False)
    broker.missing = missing  # type: ignore[attr-defined]
    timings.set("inventory", ask_every=0.0)
    timings.set("inventory", ask_after=0.0)
    broker.delivers = False
    add = adds()
    await add.aenqueue(a=1, b=1)
    await eventually(lambda: len(broker.sent) == 1 and asked)
    await add.aenqueue(a=1, b=2)
    await eventually(lambda: len(broker.sent) == 2 and len(asked) >= 2)
    assert caplog.text.count("does not say what it has: no such command") == 1


async def test_what_is_lost_on_its_way_is_sent_again(
    store: str,
    broker: ListBroker,
    caplog: pytest.LogCaptureFixture,
    two_looks: Callable[[], Awaitable[None]],
) -> None:
    """After a minute; then after two, and so on. Not before. The log asks who serves the queue."""
    broker.delivers = False
    handle = await adds().aenqueue(a=2, b=2)
    await eventually(lambda: len(broker.sent) == 1)
    rows = TaskExecution.objects.filter(id=handle.id)

    async def age(seconds: float) -> None:
        await rows.aupdate(dispatched_at=F("dispatched_at") - timedelta(seconds=seconds))

    await age(30)
    await two_looks()
    assert len(broker.sent) == 1
    assert "Does a worker serve this queue?" not in caplog.text
    await age(35)
    await eventually(lambda: len(broker.sent) == 2)
    assert "The queue 'default': 1 task, sent to" in caplog.text
    await age(65)
    await two_looks()
    assert len(broker.sent) == 2
    broker.delivers = True
    await age(60)
    assert (await final(handle)).result == 4
    assert caplog.text.count("Does a worker serve this queue?") == 1  # not twice in a minute


async def test_no_more_than_a_window_is_under_way(
    store: str,
    broker: ListBroker,
    configure: Configure,
    two_looks: Callable[[], Awaitable[None]],
) -> None:
    """The rest waits in the ledger, and what matters most leaves it first."""
    broker.delivers = False
    add = adds()
    await asyncio.gather(*(add.aenqueue(a=0, b=number) for number in range(250)))
    await eventually(lambda: len(broker.sent) == 200)
    await two_looks()
    assert len(broker.sent) == 200
    last = await add.using(priority=9).aenqueue(a=9, b=9)
    broker.delivers = True
    for dispatch in list(broker.sent):
        broker.deliver(str(dispatch.id))
    await eventually(lambda: len(broker.sent) == 251)
    assert broker.sent[200].id == last.id
    await until_rows(251, status="completed")
    assert {it.number for it in broker.sent} == {1}


async def test_a_crash_suspect_waits_for_the_other(store: str, broker: ListBroker) -> None:
    """Two that were lost with as many processes as may be are never in one process at once."""
    together: list[int] = []
    running = 0

    @task(name="broker.poison")
    async def poison() -> None:
        nonlocal running
        running += 1
        together.append(running)
        await asyncio.sleep(0.05)
        running -= 1

    broker.delivers = False
    handles = [await poison.aenqueue() for _ in range(4)]
    await TaskExecution.objects.aupdate(crashes=3)
    for handle in handles:
        broker.deliver(str(handle.id))
    for handle in handles:
        assert (await final(handle)).attempts == 1
    assert together == [1, 1, 1, 1]


async def test_a_drain_sends_back_what_arrives(store: str, broker: ListBroker) -> None:
    """It is free for the others at once; what runs is handed back, and sent again."""
    broker.delivers = False
    handle = await adds().aenqueue(a=1, b=1)
    await eventually(lambda: broker.sent)
    runtime = host.current()
    assert runtime is not None
    draining = asyncio.ensure_future(runtime.drain())
    await asyncio.sleep(0)
    assert runtime.deliveries is not None
    assert await runtime.deliveries.attempt(handle.id) is False
    await draining
    waiting = await row(handle.id)
    assert (waiting.status, waiting.dispatched_at, waiting.attempts) == ("pending", None, 0)
    await host.astop()
    assert broker.closed == 1


async def test_in_a_transaction_it_is_sent_after_the_commit(store: str, broker: ListBroker) -> None:
    """And never if that rolls back."""
    from django.db import transaction

    add = adds()

    def enqueue(fail: bool) -> None:
        with transaction.atomic():
            add.enqueue(a=1, b=1)
            if fail:
                raise ZeroDivisionError

    await final(await add.aenqueue(a=0, b=0))  # the runtime lives on this loop
    with pytest.raises(ZeroDivisionError):
        await sync_to_async(enqueue)(fail=True)
    await sync_to_async(enqueue)(fail=False)
    await until_rows(2, status="completed")
    assert len(broker.sent) == 2


async def test_a_wait_for_what_no_worker_begins_is_named(
    store: str,
    broker: ListBroker,
    timings: Timings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """All workers may run bodies that wait: the WARNING says which task waits for which."""
    timings.set("attempts", wait_report_after=0.05)
    add = adds()

    @task(name="broker.parent", max_retries=0)
    async def parent() -> str:
        broker.delivers = False
        child = await add.aenqueue(a=1, b=2)
        waiting = asyncio.ensure_future(child.aresult(TIMEOUT))
        await eventually(lambda: "Deadlock?" in caplog.text)
        broker.deliver(str(child.id))
        return f"{child.id} {await waiting}"

    with caplog.at_level(logging.WARNING):
        snapshot = await final(await parent.aenqueue())
    child, _, result = str(snapshot.result).partition(" ")
    assert result == "3"
    (message,) = [it.getMessage() for it in caplog.records if "Deadlock?" in it.getMessage()]
    for part in ("broker.parent", str(snapshot.id), "broker.add", child, "add workers"):
        assert part in message
