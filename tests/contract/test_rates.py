"""Queues with a rate, on every ledger: each claim takes a token, of all processes together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import UUID

import pytest
from django.db import connection, transaction

from rail_async_tasks.conf import RateLimit
from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.dispatch_records import DeliveryClaim, DeliveryClaimResult
from rail_async_tasks.ledger.options import LedgerOptions
from rail_async_tasks.ledger.records import Claimed, QueueClaim
from rail_async_tasks.models import QueueRate, TaskEvent
from tests.contract.conftest import ON_POSTGRES, ON_SQL
from tests.support.ledgers import NAME, Kit, Lanes
from tests.support.waiting import TIMEOUT

on_sql = pytest.mark.parametrize("ledger_kind", [*ON_SQL, "portable"], indirect=True)
on_postgres = pytest.mark.parametrize("ledger_kind", [ON_POSTGRES], indirect=True)
with_audit = pytest.mark.parametrize("ledger_options", [LedgerOptions(audit=True)])

# So slow that no token comes while a test runs: a full bucket has one.
HOURLY = RateLimit(1, 3600.0)
# A full bucket has six.
FAST = RateLimit(100, 1.0)


async def claim(
    kit: Kit, rate: RateLimit = HOURLY, *, limit: int = 100, running: dict[str, int] | None = None
) -> tuple[list[Claimed], list[float]]:
    part = QueueClaim("mail", (NAME,), limit, rate=rate, running=running)
    lanes = Lanes([part])
    result = await kit.ledger.claim(lanes)
    return result.claimed, lanes.waits


async def test_a_claim_takes_a_token_for_each_row(kit: Kit) -> None:
    """The first by priority; the claim learns when the next token comes."""
    await kit.waiting(queue="mail")
    top = await kit.waiting(queue="mail", priority=5)
    claimed, waits = await claim(kit)
    assert [it.snapshot.id for it in claimed] == [top]
    assert waits == [pytest.approx(3600.0, abs=60)]
    claimed, waits = await claim(kit)
    assert claimed == []
    assert waits == [pytest.approx(3600.0, abs=60)]


async def test_tokens_without_a_row_stay(kit: Kit) -> None:
    """Three rows take three of six."""
    for _ in range(3):
        await kit.waiting(queue="mail")
    claimed, waits = await claim(kit, FAST)
    assert (len(claimed), waits) == (3, [])
    for _ in range(20):
        await kit.waiting(queue="mail")
    claimed, _ = await claim(kit, FAST)
    assert len(claimed) >= 3


async def test_an_idle_queue_takes_none(kit: Kit) -> None:
    """A claim of an empty queue is not limited."""
    assert await claim(kit) == ([], [])
    await kit.waiting(queue="mail")
    assert len((await claim(kit))[0]) == 1


async def test_the_claims_own_limit_holds_too(kit: Kit) -> None:
    """Two free slots take two of six tokens."""
    for _ in range(5):
        await kit.waiting(queue="mail")
    claimed, waits = await claim(kit, FAST, limit=2)
    assert (len(claimed), waits) == (2, [])


async def test_other_queues_have_tokens_of_their_own(kit: Kit) -> None:
    """And those without a rate need none."""
    for queue in ("mail", "mail", "sms", "default", "default"):
        await kit.waiting(queue=queue)
    parts = [
        QueueClaim(queue, (NAME,), 9, rate=rate)
        for queue, rate in (("mail", HOURLY), ("sms", HOURLY), ("default", None))
    ]
    lanes = Lanes(parts)
    await kit.ledger.claim(lanes)
    assert lanes.counts == [1, 1, 2]


async def test_concurrent_claims_share_the_tokens(kit: Kit) -> None:
    """Twenty at once start what one token allows."""
    for _ in range(40):
        await kit.waiting(queue="mail")
    found = await asyncio.gather(*(claim(kit, limit=1) for _ in range(20)))
    assert sum(len(claimed) for claimed, _ in found) == 1


@on_sql
async def test_owners_take_turns_within_the_tokens(kit: Kit) -> None:
    """Who has had a start lately comes after who has had none."""
    await kit.waiting(queue="mail", owner_id="a")
    theirs = await kit.waiting(queue="mail", owner_id="b")
    claimed, _ = await claim(kit, running={"a": 1})
    assert [it.snapshot.id for it in claimed] == [theirs]


@on_sql
@with_audit
async def test_claims_by_a_rate_are_in_the_audit(kit: Kit) -> None:
    """As all claims."""
    execution_id = await kit.waiting(queue="mail")
    await claim(kit)
    events = TaskEvent.objects.filter(execution_id=execution_id, reason="claimed")
    assert await kit.here(events.count) == 1


async def test_a_claim_by_id_takes_a_token_where_it_is_given_the_rate(kit: Kit) -> None:
    """And leaves the row as it is where there is none."""
    first, second = await kit.waiting(queue="mail"), await kit.waiting(queue="mail")
    here = kit.ledger.claim_here
    assert await kit.here(here, first, new_id(), new_id(), HOURLY) is not None
    assert await kit.here(here, second, new_id(), new_id(), HOURLY) is None
    row = await kit.get(second)
    assert (row.status, row.attempts) == ("pending", 0)
    assert await kit.here(here, second, new_id(), new_id()) is not None


# --- deliveries of a broker -----------------------------------------------------------------------


async def deliver(kit: Kit, ids: Sequence[UUID], rate: RateLimit = HOURLY) -> DeliveryClaimResult:
    dispatches = kit.ledger.dispatches()
    assert dispatches is not None
    return await dispatches.claim(
        DeliveryClaim(
            ids=ids, names=[NAME], runtime_id=new_id(), crashes=3, suspects=True,
            rates={"mail": rate},
        )
    )  # fmt: skip


@on_sql
async def test_a_delivery_takes_a_token(kit: Kit) -> None:
    """Others of the queue are early, and know by how much; they cost no attempt."""
    ids = [await kit.waiting(queue="mail") for _ in range(3)]
    other = await kit.waiting(queue="default")
    brought = await deliver(kit, [*ids, other])
    assert {it.snapshot.id for it in brought.claimed} == {ids[0], other}
    assert brought.early == {
        ids[1]: pytest.approx(3600.0, abs=60),
        ids[2]: pytest.approx(7200.0, abs=60),
    }
    assert (brought.locked, brought.postponed, brought.paused) == (set(), set(), set())
    assert (await kit.get(ids[1])).attempts == 0
    assert (await deliver(kit, [ids[1]])).claimed == []


@on_sql
async def test_as_many_are_sent_as_may_start(kit: Kit) -> None:
    """What is under way counts; what has no token waits in the ledger."""
    for _ in range(20):
        await kit.waiting(queue="mail")
    dispatches = kit.ledger.dispatches()
    assert dispatches is not None
    assert await dispatches.send_rated("sms", "arq", HOURLY, 250) == await dispatches.send_rated(
        "none", "arq", HOURLY, 250
    )
    first = await dispatches.send_rated("mail", "arq", HOURLY, 250)
    assert (len(first.sent), first.wait) == (1, 1.0)  # a worker must claim that first
    again = await dispatches.send_rated("mail", "arq", HOURLY, 250)
    assert (again.sent, again.wait) == ([], 1.0)
    await deliver(kit, [first.sent[0].id])
    spent = await dispatches.send_rated("mail", "arq", HOURLY, 250)
    assert spent.sent == []
    assert spent.wait == pytest.approx(3600.0, abs=60)
    more = await dispatches.send_rated("mail", "arq", RateLimit(100, 1.0), 250)
    assert len(more.sent) >= 10  # those of the next tenth of a second


# --- the row --------------------------------------------------------------------------------------


@on_sql
async def test_a_clock_that_was_ahead_stops_no_queue(kit: Kit) -> None:
    """A spent time of next year is put right by the first look."""
    await kit.waiting(queue="mail")
    await kit.here(lambda: QueueRate.objects.create(name="mail", spent_until=4 * 10**15))
    claimed, waits = await claim(kit, RateLimit(1, 1.0))
    assert (claimed, waits) == ([], [pytest.approx(1.0, abs=0.2)])
    row = await kit.here(lambda: QueueRate.objects.get(name="mail"))
    assert row.spent_until is not None
    assert row.spent_until < 3 * 10**15


@on_postgres
async def test_a_claim_waits_for_no_other_process(kit: Kit) -> None:
    """One that hangs in the middle of its claim, say: it is asked again soon."""
    await kit.waiting(queue="mail")
    await kit.here(lambda: QueueRate.objects.create(name="mail"))
    locked, go_on = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def hold() -> None:
        with transaction.atomic():
            list(QueueRate.objects.select_for_update().filter(name="mail"))
            loop.call_soon_threadsafe(locked.set)
            asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(2 * TIMEOUT)
        connection.close()

    holder = loop.run_in_executor(None, hold)
    await locked.wait()
    try:
        assert await asyncio.wait_for(claim(kit), TIMEOUT) == ([], [0.0])
    finally:
        go_on.set()
        await holder
    assert len((await claim(kit))[0]) == 1


async def test_what_waits_for_a_token_may_start_late(kit: Kit) -> None:
    """The claim that leaves rows for want of tokens says so: what comes meanwhile is kept."""
    for _ in range(30):
        await kit.waiting(queue="mail")
    claimed, _ = await claim(kit, FAST)
    await asyncio.sleep(0.2)  # the ledger's clock: about twenty tokens, of which an idle queue
    late, _ = await claim(kit, FAST)  # keeps six
    assert len(claimed) + len(late) > 15
