"""Pauses of queues and counts by queue, on every ledger."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.audit import queue_id
from rail_async_tasks.ledger.dispatch_records import DeliveryClaim
from rail_async_tasks.ledger.options import LedgerOptions
from rail_async_tasks.models import TaskEvent
from rail_async_tasks.states import Status
from tests.contract.conftest import ON_SQL
from tests.support.ledgers import NAME, Kit

with_audit = pytest.mark.parametrize("ledger_options", [LedgerOptions(audit=True)])
on_sql = pytest.mark.parametrize("ledger_kind", [*ON_SQL, "portable"], indirect=True)


async def pause(kit: Kit, queue: str, by: str | None = "7") -> bool:
    return await kit.here(kit.ledger.pause_queue, queue, by)


async def resume(kit: Kit, queue: str, by: str | None = "8") -> bool:
    return await kit.here(kit.ledger.resume_queue, queue, by)


async def test_a_pause_is_stored_with_its_time_and_name(kit: Kit) -> None:
    """Both reads show it, and neither does once it has ended."""
    before = await kit.ledger.now()
    assert await pause(kit, "low")
    after = await kit.ledger.now()
    found = await kit.here(kit.ledger.pauses)
    assert list(found) == ["low"]
    assert found["low"].by == "7"
    assert before <= found["low"].at <= after
    assert list(await kit.ledger.paused_queues()) == ["low"]
    assert await resume(kit, "low")
    assert await kit.here(kit.ledger.pauses) == {}
    assert list(await kit.ledger.paused_queues()) == []


async def test_a_second_pause_changes_nothing(kit: Kit) -> None:
    """The first one's time and name stay; a second resume is none either."""
    await pause(kit, "low", "first")
    first = await kit.here(kit.ledger.pauses)
    assert not await pause(kit, "low", "second")
    assert await kit.here(kit.ledger.pauses) == first
    assert await resume(kit, "low")
    assert not await resume(kit, "low")
    assert not await resume(kit, "never")
    assert await pause(kit, "low", "again")


async def test_a_claim_by_id_leaves_out_a_paused_queue(kit: Kit) -> None:
    """Inline runs claim so; another queue's row, and this one after the pause, are claimed."""
    low, high = await kit.waiting(queue="low"), await kit.waiting(queue="high")
    await pause(kit, "low")
    claim: Callable[..., object] = kit.ledger.claim_here
    assert await kit.here(claim, low, new_id(), new_id()) is None
    assert await kit.here(claim, high, new_id(), new_id()) is not None
    assert (await kit.get(low)).attempts == 0
    await resume(kit, "low")
    assert await kit.here(claim, low, new_id(), new_id()) is not None


@on_sql
async def test_a_delivery_of_a_paused_queue_is_not_claimed(kit: Kit) -> None:
    """It is named as such, and costs neither an attempt nor a retry."""
    low, high = await kit.waiting(queue="low"), await kit.waiting(queue="high")
    dispatches = kit.ledger.dispatches()
    assert dispatches is not None
    delivery = DeliveryClaim(
        ids=[low, high], names=[NAME], runtime_id=new_id(), crashes=3, suspects=True, paused=["low"]
    )
    brought = await dispatches.claim(delivery)
    assert [it.snapshot.id for it in brought.claimed] == [high]
    assert (brought.paused, brought.locked, brought.postponed) == ({low}, set(), set())
    row = await kit.get(low)
    assert (row.status, row.attempts, row.retry_count, row.seq) == ("pending", 0, 0, 1)


async def test_counts_are_by_queue_and_status(kit: Kit) -> None:
    """Final executions count nowhere; only a due one has an age."""
    await kit.waiting(queue="low")
    await kit.waiting(queue="low", delay=3600.0)
    await kit.running(queue="low")
    await kit.in_state(Status.RETRYING, queue="high")
    await kit.in_state(Status.COMPLETED, queue="gone")
    found = {it.name: it for it in await kit.here(kit.ledger.queue_counts)}
    assert set(found) == {"low", "high"}
    low, high = found["low"], found["high"]
    assert (low.pending, low.running, low.retrying) == (2, 1, 0)
    assert (high.pending, high.running, high.retrying) == (0, 0, 1)
    assert low.oldest_seconds is not None
    assert 0 <= low.oldest_seconds < 3600
    assert high.oldest_seconds is None


async def test_what_waits_in_a_queue_is_read_in_order(kit: Kit) -> None:
    """By priority and age, delayed ones too, of the given tasks alone."""
    first = await kit.waiting(queue="low")
    second = await kit.waiting(queue="low", delay=3600.0)
    top = await kit.waiting(queue="low", priority=1)
    await kit.waiting(queue="low", name="other")
    await kit.waiting(queue="high")
    await kit.running(queue="low")
    assert await kit.here(kit.ledger.waiting_in, "low", [NAME], 9) == [top, first, second]
    assert await kit.here(kit.ledger.waiting_in, "low", [NAME], 1) == [top]


@on_sql
@with_audit
async def test_pauses_are_in_the_audit(kit: Kit) -> None:
    """Who, when, and in which order; a call that changed nothing leaves no row."""
    await pause(kit, "low", "7")
    await pause(kit, "low", "9")
    await resume(kit, "low", "8")
    events = TaskEvent.objects.order_by("seq").filter(execution_id=queue_id("low"))
    columns = ("name", "from_status", "to_status", "actor", "reason", "seq")
    assert await kit.here(lambda: list(events.values_list(*columns))) == [
        ("low", "active", "paused", "7", "queue_paused", 1),
        ("low", "paused", "active", "8", "queue_resumed", 2),
    ]


async def test_a_survey_names_the_queues_with_due_rows(kit: Kit) -> None:
    """Of those that are asked for; and the paused ones, and when the next delayed row is due."""
    empty = await kit.ledger.survey(["low", "high"])
    assert (empty.waiting, empty.next_due, empty.paused) == (frozenset(), None, frozenset())
    await kit.waiting(queue="low")
    await kit.waiting(queue="elsewhere")
    await kit.waiting(queue="high", delay=3600.0)
    await kit.running(queue="high")
    await pause(kit, "low")
    found = await kit.ledger.survey(["low", "high"])
    assert (found.waiting, found.paused) == ({"low"}, {"low"})
    assert found.next_due is not None
    assert 3000 < found.next_due <= 3600
    await kit.claim("low")
    assert (await kit.ledger.survey(["low", "high"])).waiting == frozenset()
