"""Claims of delivered ids, and dispatches: what they take, what they leave, and what they cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from django.db.models import F

from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.dispatch_records import DeliveryClaim, DeliveryClaimResult
from rail_async_tasks.ledger.orm import dispatches as module
from rail_async_tasks.ledger.orm.dispatches import OrmDispatches
from rail_async_tasks.ledger.upkeep import Dispatches
from rail_async_tasks.models import TaskExecution
from tests.contract.conftest import ON_POSTGRES, ON_SQL
from tests.support.ledgers import NAME, Kit

on_databases = pytest.mark.parametrize("ledger_kind", [*ON_SQL, "portable"], indirect=True)


def dispatches(kit: Kit) -> Dispatches:
    found = kit.ledger.dispatches()
    assert found is not None
    return found


async def deliver(kit: Kit, ids: Sequence[UUID], **options: Any) -> DeliveryClaimResult:
    defaults: dict[str, Any] = {
        "names": [NAME], "runtime_id": new_id(), "crashes": 3, "suspects": False,
    }  # fmt: skip
    return await dispatches(kit).claim(DeliveryClaim(ids=ids, **(defaults | options)))


def ids_of(found: DeliveryClaimResult) -> list[UUID]:
    return [it.snapshot.id for it in found.claimed]


@on_databases
async def test_ids_are_claimed_by_priority_and_each_once(kit: Kit) -> None:
    """Under one token, by one runtime; a second claim gets none of them."""
    low, first, second = [await kit.waiting(priority=it) for it in (-5, 0, 0)]
    holder = new_id()
    found = await deliver(kit, [second, low, first], runtime_id=holder)
    assert ids_of(found) == [first, second, low]
    assert {it.snapshot.status for it in found.claimed} == {"running"}
    assert {it.arguments for it in found.claimed} <= {'{"n": 1}', '{"n":1}'}
    row = await TaskExecution.objects.aget(id=low)
    assert (row.runtime_id, row.token, row.attempts, row.seq) == (
        holder, found.claimed[0].token, 1, 2,
    )  # fmt: skip
    assert ids_of(await deliver(kit, [first, second, low])) == []


@on_databases
async def test_what_a_claim_of_ids_leaves(kit: Kit) -> None:
    """Paused, delayed, unknown here, cancelled, suspected, running, gone: the others are taken."""
    due = await kit.waiting()
    paused = await kit.waiting(queue="mail")
    delayed = await kit.waiting(delay=3600.0)
    unknown = await kit.waiting(name="newer")
    cancelled = await kit.waiting()
    await kit.cancel(cancelled)
    suspect = await kit.waiting()
    await TaskExecution.objects.filter(id=suspect).aupdate(crashes=3)
    running = (await kit.running()).snapshot.id
    others = [paused, delayed, unknown, cancelled, suspect, running, new_id()]
    found = await deliver(kit, [*others, due], paused=["mail"])
    assert ids_of(found) == [due]
    assert (found.paused, found.postponed, found.locked) == ({paused}, {suspect}, set())
    assert ids_of(await deliver(kit, [suspect, paused], suspects=True)) == [paused, suspect]


@on_databases
async def test_a_row_whose_time_has_come_is_claimed_before_it_is_staged(kit: Kit) -> None:
    """A worker may be faster than the process that clears `run_after`."""
    found = await kit.waiting(delay=3600.0)
    hour = TaskExecution.objects.filter(id=found)
    await hour.aupdate(run_after=F("created_at"))
    assert ids_of(await deliver(kit, [found])) == [found]
    assert (await kit.get(found)).run_after is None


@on_databases
async def test_no_more_is_sent_than_the_window_has_room_for(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The highest priority first, whichever statement marks them; each is counted, and once."""
    monkeypatch.setattr(module, "OVERDUE_INTERVAL", 3600.0)
    rows = [await kit.waiting(priority=it) for it in (0, 0, 7, 0, 0)]
    other = await kit.waiting(queue="mail")
    sender = dispatches(kit)
    first = await sender.send("default", "arq", 3, 2)  # looks for overdue ones too
    assert [it.id for it in first] == [rows[2], rows[0]]
    second = await sender.send("default", "arq", 3, 2)
    assert [(it.id, it.name, it.queue, it.priority, it.number) for it in second] == [
        (rows[1], NAME, "default", 0, 1)
    ]
    assert await sender.send("default", "arq", 3, 2) == []
    await deliver(kit, [rows[0]])
    assert [it.id for it in await sender.send("default", "arq", 3, 2)] == [rows[3]]
    row = await TaskExecution.objects.aget(id=rows[1])
    assert (row.dispatched_to, row.dispatches, row.dispatched_at is None) == ("arq", 1, False)
    assert (await TaskExecution.objects.aget(id=other)).dispatched_at is None


# --- what it costs --------------------------------------------------------------------------------


@contextmanager
def counted(sent: list[str]) -> Iterator[None]:
    def note(execute: Any, statement: str, params: Any, many: bool, context: Any) -> Any:
        sent.append(" ".join(statement.split()[:4]))
        return execute(statement, params, many, context)

    with connections["default"].execute_wrapper(note):
        yield


def statements_of(part: Dispatches, call: Any) -> list[str]:
    """The statements of a call, made in this thread in the place of a writer's."""
    assert isinstance(part, OrmDispatches)
    sent: list[str] = []
    with counted(sent):
        call(part)
    return sent


@pytest.mark.parametrize("ledger_kind", ["sqlite", ON_POSTGRES], indirect=True)
async def test_a_hundred_ids_are_claimed_by_one_statement(kit: Kit) -> None:
    """In no transaction of several round trips. What is left over costs more."""
    ids = [await kit.waiting() for _ in range(100)]
    wanted = DeliveryClaim(ids=ids, names=[NAME], runtime_id=new_id(), crashes=3, suspects=True)
    taken = await sync_to_async(statements_of)(
        dispatches(kit), lambda part: part._claim(wanted, new_id())
    )
    assert len(taken) == 1, taken
    again = await sync_to_async(statements_of)(
        dispatches(kit), lambda part: part._claim(wanted, new_id())
    )
    assert len(again) > 1
    assert await TaskExecution.objects.filter(status="running", attempts=1).acount() == 100


@pytest.mark.parametrize("ledger_kind", [ON_POSTGRES], indirect=True)
async def test_a_hundred_ids_are_sent_by_one_statement(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Overdue ones are looked for once in a while only."""
    monkeypatch.setattr(module, "OVERDUE_INTERVAL", 3600.0)
    for _ in range(150):
        await kit.waiting()
    part = dispatches(kit)

    def send(part: Any) -> None:
        part._send("default", "arq", 100, 50)

    first = await sync_to_async(statements_of)(part, send)
    second = await sync_to_async(statements_of)(part, send)
    assert (len(first) > 1, len(second)) == (True, 1), second
    assert await TaskExecution.objects.filter(dispatches=1).acount() == 100
