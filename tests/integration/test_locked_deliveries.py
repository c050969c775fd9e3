"""A delivery whose row another transaction holds: it waits, and is not dropped."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any
from uuid import UUID

import pytest

from rail_async_tasks import service
from rail_async_tasks.access import SYSTEM
from rail_async_tasks.hosting import process as host
from rail_async_tasks.ledger.dispatch_records import DeliveryClaim
from rail_async_tasks.ledger.orm.dispatches import OrmDispatches
from rail_async_tasks.models import TaskExecution
from tests.integration.test_broker import ListBroker, adds, broker, row, until_rows
from tests.services.locking import a_transaction, locked
from tests.support.waiting import TIMEOUT, eventually, final

__all__ = ["broker"]  # the fixture

pytestmark = [
    pytest.mark.parametrize(
        "store", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True
    ),
    pytest.mark.usefixtures("ends_cleanly"),
]


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Counter[UUID]:
    """How often each id was asked for by a claim."""
    found: Counter[UUID] = Counter()
    claim = OrmDispatches._claim

    def counted(self: OrmDispatches, wanted: DeliveryClaim, token: UUID) -> Any:
        brought = claim(self, wanted, token)
        found.update(wanted.ids)
        return brought

    monkeypatch.setattr(OrmDispatches, "_claim", counted)
    return found


def refused() -> int:
    runtime = host.current()
    assert runtime is not None
    return runtime.statistics()["refused"]


async def test_a_locked_row_is_looked_at_again_until_it_is_free(
    store: str, broker: ListBroker, looks: Counter[UUID]
) -> None:
    """It runs then, once, without being sent again. What is brought beside it runs meanwhile."""
    broker.delivers = False
    add = adds()
    held, beside = await add.aenqueue(a=1, b=1), await add.aenqueue(a=2, b=2)
    await until_rows(2, dispatched_at__isnull=False)
    await eventually(lambda: len(broker.sent) == 2)
    with locked(held.id) as other:
        deliveries = [broker.deliver(str(held.id)) for _ in range(3)]
        await eventually(lambda: looks[held.id] >= 3)
        await broker.deliver(str(beside.id))
        assert (await final(beside)).result == 4
        deliveries.append(broker.deliver(str(held.id)))
        assert refused() == 0
        assert not any(delivery.done() for delivery in deliveries)
        other.rollback()
    assert (await final(held)).result == 2
    await asyncio.wait(deliveries)
    assert ((await row(held.id)).attempts, len(broker.sent), refused()) == (1, 2, 3)


async def test_a_row_that_the_sender_is_marking_is_run(
    store: str, broker: ListBroker, looks: Counter[UUID]
) -> None:
    """Sent before, by another process, and brought while this one marks it once more."""
    broker.delivers = False
    handle = await adds().aenqueue(a=1, b=1)
    await eventually(lambda: broker.sent)
    await until_rows(1, dispatched_at__isnull=False)

    def mark() -> None:
        TaskExecution.objects.filter(id=handle.id).update(dispatches=2)

    with a_transaction(mark) as over:
        delivery = broker.deliver(str(handle.id))
        await eventually(lambda: looks[handle.id] >= 2)
        assert not delivery.done()
        over.set()
    await asyncio.wait_for(delivery, TIMEOUT)
    assert ((await row(handle.id)).status, refused()) == ("completed", 0)


async def test_a_row_that_is_cancelled_in_an_open_transaction(
    store: str, broker: ListBroker, looks: Counter[UUID]
) -> None:
    """The delivery is over once that has committed; the body never runs."""
    broker.delivers = False
    handle = await adds().aenqueue(a=1, b=1)
    await eventually(lambda: broker.sent)
    await until_rows(1, dispatched_at__isnull=False)
    with a_transaction(lambda: service.cancel(SYSTEM, handle.id)) as over:
        delivery = broker.deliver(str(handle.id))
        await eventually(lambda: looks[handle.id] >= 2)
        assert not delivery.done()
        over.set()
    await asyncio.wait_for(delivery, TIMEOUT)
    assert ((await row(handle.id)).attempts, refused()) == (0, 1)


async def test_a_drain_sends_a_locked_row_back(
    store: str, broker: ListBroker, looks: Counter[UUID]
) -> None:
    """Its mark goes once the row is free. A row beside it is sent back at once."""
    broker.delivers = False
    add = adds()
    held, beside = await add.aenqueue(a=1, b=1), await add.aenqueue(a=2, b=2)
    await eventually(lambda: len(broker.sent) == 2)
    await until_rows(2, dispatched_at__isnull=False)
    runtime = host.current()
    assert runtime is not None
    assert runtime.deliveries is not None
    with locked(held.id) as other:
        delivery = asyncio.ensure_future(runtime.deliveries.attempt(held.id))
        await eventually(lambda: looks[held.id] >= 2)
        draining = asyncio.ensure_future(runtime.drain())
        await asyncio.sleep(0)
        late = asyncio.ensure_future(runtime.deliveries.attempt(beside.id))
        await until_rows(1, id=beside.id, dispatched_at=None)
        assert (await row(held.id)).dispatched_at is not None
        other.rollback()
    await draining
    assert (await delivery, await late) == (False, False)
    assert (await row(held.id)).dispatched_at is None


async def test_a_push_that_failed_is_taken_back_but_for_what_is_locked(
    store: str, broker: ListBroker
) -> None:
    """That is taken back, and sent again, once it is free: not a minute later."""
    add = adds()
    broker.down = True
    taken_back = OrmDispatches._unsend
    held = await add.using(delay=3600).aenqueue(a=1, b=1)
    beside = await add.using(delay=3600).aenqueue(a=2, b=2)
    with pytest.MonkeyPatch.context() as patch, locked(held.id, mode="KEY SHARE") as other:

        def unsend(self: OrmDispatches, dispatches: Any) -> Any:
            # The row was free when it was marked; its mark has committed.
            if len(dispatches) == 2:
                other.execute(
                    "SELECT 1 FROM rail_async_tasks_execution WHERE id = %s FOR UPDATE", [held.id]
                )
            return taken_back(self, dispatches)

        patch.setattr(OrmDispatches, "_unsend", unsend)
        both = TaskExecution.objects.filter(id__in=[held.id, beside.id])
        await both.aupdate(run_after=None)
        await until_rows(1, id=beside.id, dispatched_at=None, dispatches__gte=1)
        assert (await row(held.id)).dispatched_at is not None
        broker.down = False
        assert (await final(beside)).result == 4
        assert (await row(held.id)).status == "pending"
        other.rollback()
    assert (await final(held)).result == 2


async def test_what_is_brought_while_a_claim_of_it_is_on_its_way(
    store: str, broker: ListBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It joins the delivery that waits for the lock: both are answered."""
    broker.delivers = False
    handle = await adds().aenqueue(a=1, b=1)
    await eventually(lambda: broker.sent)
    await until_rows(1, dispatched_at__isnull=False)
    claim, deliveries, claims = OrmDispatches.claim, [], Counter[UUID]()

    async def joined(self: OrmDispatches, wanted: DeliveryClaim) -> Any:
        brought = await claim(self, wanted)
        claims.update(wanted.ids)
        if len(deliveries) < 3:
            deliveries.append(broker.deliver(str(handle.id)))
            await asyncio.sleep(0.01)  # it is on its way to the deliveries
        return brought

    monkeypatch.setattr(OrmDispatches, "claim", joined)
    with locked(handle.id) as other:
        deliveries.append(broker.deliver(str(handle.id)))
        await eventually(lambda: claims[handle.id] >= 4)
        assert not any(delivery.done() for delivery in deliveries)
        other.rollback()
    await asyncio.wait_for(asyncio.gather(*deliveries), TIMEOUT)
    assert ((await row(handle.id)).attempts, refused()) == (1, 2)
