"""Every ledger: what readers see, page by page."""

from __future__ import annotations

from uuid import UUID

import pytest

from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.records import Page
from rail_async_tasks.states import Status
from tests.support.ledgers import Kit


async def page(kit: Kit, limit: int = 50, **fields: object) -> list[UUID]:
    found = await kit.here(kit.ledger.page, Page(limit=limit, **fields))  # type: ignore[arg-type]
    return [snapshot.id for snapshot in found]


async def expired(kit: Kit) -> UUID:
    """A row whose time is over."""
    claimed = await kit.running()
    assert await kit.settle(claimed, Status.COMPLETED, ttl=-1.0) is not None
    return claimed.snapshot.id


async def test_an_expired_row_is_hidden_at_once(kit: Kit) -> None:
    """From every read, before anything has deleted it."""
    gone, alive = await expired(kit), await kit.waiting()
    assert await kit.here(kit.ledger.get, gone) is None
    assert [it.id for it in await kit.here(kit.ledger.get_many, [gone, alive])] == [alive]
    assert [it.id for it in await kit.ledger.reread([gone, alive])] == [alive]
    assert await page(kit, everyone=True) == [alive]


async def test_reads_of_what_is_not_there(kit: Kit) -> None:
    """Nothing, never an error."""
    assert await kit.here(kit.ledger.get, new_id()) is None
    assert await kit.here(kit.ledger.get_many, [new_id()]) == []
    assert await kit.here(kit.ledger.get_many, []) == []
    assert await kit.ledger.reread([]) == []
    assert await page(kit, everyone=True) == []


async def test_pages_go_from_the_newest_to_the_oldest(kit: Kit) -> None:
    """Page after page by the last id of the one before: each row once, whatever comes meanwhile."""
    rows = [await kit.waiting() for _ in range(7)]
    first = await page(kit, 3, everyone=True)
    await kit.waiting()
    second = await page(kit, 3, everyone=True, after=first[-1])
    third = await page(kit, 3, everyone=True, after=second[-1])
    assert first + second + third == rows[::-1]
    assert await page(kit, 3, everyone=True, after=third[-1]) == []


async def test_a_page_after_a_row_that_is_gone_goes_on(kit: Kit) -> None:
    """The cursor is a place in the order, not a row."""
    older = await kit.waiting()
    cursor = new_id()
    await kit.waiting()
    assert await page(kit, everyone=True, after=cursor) == [older]


async def test_a_page_is_one_owners_within_a_tenant(kit: Kit) -> None:
    """Not another owner's, nor the same owner's in another tenant, nor rows without an owner."""
    whose = [("1", None), ("1", "a"), ("1", "b"), ("2", "a"), (None, None), (None, "a")]
    rows = {(o, t): await kit.waiting(owner_id=o, tenant_id=t) for o, t in whose}
    for owner, tenant in whose:
        assert await page(kit, owner_id=owner, tenant_id=tenant) == [rows[owner, tenant]]
    assert await page(kit, owner_id="2") == []
    assert len(await page(kit, everyone=True)) == len(whose)


@pytest.mark.parametrize("everyone", [False, True])
async def test_a_page_is_filtered(kit: Kit, everyone: bool) -> None:
    """By status, by name, by queue, by being unfinished; all of them at once."""
    who = {"everyone": True} if everyone else {"owner_id": "1"}
    rows = {
        status: (await kit.in_state(status, owner_id="1", queue="a")).snapshot.id
        for status in Status
    }
    other = await kit.waiting(owner_id="1", name="other", queue="b")
    for status in set(Status) - {Status.PENDING}:
        assert await page(kit, status=status, **who) == [rows[status]]
    unfinished = {rows[Status.PENDING], rows[Status.RUNNING], rows[Status.RETRYING], other}
    assert set(await page(kit, unfinished=True, **who)) == unfinished
    assert await page(kit, name="other", **who) == [other]
    assert await page(kit, queue="b", **who) == [other]
    assert await page(kit, status="pending", queue="a", **who) == [rows[Status.PENDING]]
    assert await page(kit, status="failed", name="other", **who) == []
    assert await page(kit, unfinished=True, after=other, limit=1, **who) == [rows[Status.RETRYING]]


async def test_readers_get_every_field(kit: Kit) -> None:
    """A row read alone, in a list and in a page is the same snapshot."""
    claimed = await kit.running(owner_id="1", tenant_id="t", parent_id=new_id(), queue="q")
    await kit.settle(claimed, Status.COMPLETED, result='{"deep": [1, {"n": null}]}', ttl=60.0)
    execution_id = claimed.snapshot.id
    alone = await kit.get(execution_id)
    assert alone.result == {"deep": [1, {"n": None}]}
    assert await kit.here(kit.ledger.get_many, [execution_id]) == [alone]
    assert await kit.ledger.reread([execution_id]) == [alone]
    paged = await kit.here(kit.ledger.page, Page(limit=5, owner_id="1", tenant_id="t"))
    assert paged == [alone]


async def test_a_quiet_ledger_is_not_congested(kit: Kit) -> None:
    """It returns at once where there is no backlog."""
    assert not kit.ledger.congested
    await kit.ledger.relieved()


async def test_which_of_many_have_not_ended(kit: Kit) -> None:
    """Their statuses, of the ids that were asked for and exist."""
    rows = {status: (await kit.in_state(status)).snapshot.id for status in Status}
    found = await kit.here(kit.ledger.unfinished, [*rows.values(), new_id()])
    unfinished = {Status.PENDING, Status.RUNNING, Status.RETRYING}
    assert found == {rows[status]: status for status in unfinished}
    assert await kit.here(kit.ledger.unfinished, []) == {}
    many = [new_id() for _ in range(2_000)]
    assert await kit.here(kit.ledger.unfinished, [*many, rows[Status.PENDING]]) == {
        rows[Status.PENDING]: Status.PENDING
    }
