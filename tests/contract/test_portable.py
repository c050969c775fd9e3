"""The portable ledger on MariaDB: tests that other databases do not need."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from io import StringIO
from typing import Any
from uuid import UUID

import pytest
from django.core.management import call_command
from django.db import connection, connections
from django.db.backends.base.features import BaseDatabaseFeatures

from rail_async_tasks.db_connections import is_passing
from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.orm.ledger import OrmLedger
from rail_async_tasks.ledger.portable import claims, table
from rail_async_tasks.ledger.records import Page, QueueClaim, Recovery
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.states import Status
from tests.contract.conftest import ON_MARIADB
from tests.support.ledgers import NAME, Kit, Lanes, new_execution, outcome_of
from tests.support.waiting import TIMEOUT

pytestmark = pytest.mark.parametrize("ledger_kind", [ON_MARIADB], indirect=True)

DONE, FAIL, CANC, RET = Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.RETRYING


@pytest.fixture
def without_skip_locked(ledger_kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a database is that can't skip what others have locked."""
    features: type[BaseDatabaseFeatures] = type(connections["default"].features)
    monkeypatch.setattr(features, "has_select_for_update_skip_locked", False)


@pytest.fixture
async def others(kit: Kit) -> AsyncIterator[list[Kit]]:
    """The ledgers of four processes."""
    kits = [Kit(kit.kind, OrmLedger()) for _ in range(4)]
    for it in kits:
        it.ledger.start()
    yield kits
    for it in kits:
        await it.ledger.stop()


def test_the_migration_leaves_one_warning(ledger_kind: str) -> None:
    """Indexes and the unique key are there in plain forms; only the slower path is warned of."""
    warnings = StringIO()
    call_command("check", databases=["default"], stderr=warnings)
    assert re.findall(r"\((\w+\.\w+)\)", warnings.getvalue()) == ["rail_async_tasks.W006"]
    with connection.cursor() as cursor:
        table = TaskExecution._meta.db_table
        found = connection.introspection.get_constraints(cursor, table)
    unique = [it["columns"] for it in found.values() if it["unique"] and not it["primary_key"]]
    assert unique == [["unique_key"]]
    assert {"rat_due_plain", "rat_fair_plain", "rat_held", "rat_delayed"} <= set(found)
    assert {"rat_status_is_known", "rat_running_is_held"} <= set(found)


def test_text_is_compared_byte_by_byte(ledger_kind: str) -> None:
    """Owners, tenants and names that differ by case, accent or a blank at the end are others."""
    ledger = OrmLedger()
    for owner in ("ann", "Ann", "ann ", "änn"):
        ledger.create_here(new_execution(owner_id=owner, tenant_id="t", name=f"task.{owner}"))
    for owner in ("ann", "Ann", "ann ", "änn"):
        (found,) = ledger.page(Page(limit=9, owner_id=owner, tenant_id="t"))
        assert found.owner_id == owner
        assert len(ledger.page(Page(limit=9, everyone=True, name=f"task.{owner}"))) == 1
    assert ledger.page(Page(limit=9, owner_id="ann", tenant_id="T")) == []


async def test_claims_of_many_processes_share_no_row(kit: Kit, others: list[Kit]) -> None:
    """Each row is had once, by one of them."""
    await _claims_share_no_row(kit, others)


async def test_claims_without_skip_locked_share_no_row(
    without_skip_locked: None, kit: Kit, others: list[Kit]
) -> None:
    """By the guard of each UPDATE alone."""
    await _claims_share_no_row(kit, others)


async def _claims_share_no_row(kit: Kit, others: list[Kit]) -> None:
    rows = await asyncio.gather(*(_created(kit, n) for n in range(200)))
    claimed: Counter[UUID] = Counter()

    async def claim(it: Kit) -> None:
        while sum(claimed.values()) < len(rows):
            for got in (await it.claim(limit=7)).claimed:
                claimed[got.snapshot.id] += 1
                settled = await it.settle(got, DONE)
                assert settled is not None

    await asyncio.wait_for(asyncio.gather(*map(claim, others)), 2 * TIMEOUT)
    assert claimed == Counter(rows)


async def _created(kit: Kit, n: int, **fields: Any) -> UUID:
    return await kit.waiting(priority=n % 3, **fields)


async def test_one_unique_key_in_many_processes_is_one_row(kit: Kit, others: list[Kit]) -> None:
    """The first makes it; all others get it as `existing`."""
    news = [new_execution(unique_key="k") for _ in range(24)]
    made = await asyncio.gather(*(others[n % 4].create(new) for n, new in enumerate(news)))
    assert sum(it.existing is None for it in made) == 1
    assert await TaskExecution.objects.acount() == 1


async def test_a_cancel_between_the_look_and_the_write(
    without_skip_locked: None, kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row has changed since the outcome's read: the outcome is not written, but read again."""
    claimed = await kit.running()
    looked = table.Table.locked_by_id
    cancels = [claimed.snapshot.id]

    def look(self: Any, ids: Any) -> Any:
        found = looked(self, ids)
        if cancels:
            other = connection.copy()  # another process's
            with other.cursor() as cursor:
                table, token = TaskExecution._meta.db_table, cancels.pop()
                cursor.execute(f"UPDATE {table} SET cancel_requested = 1 WHERE id = %s", [token])
            other.close()
        return found

    monkeypatch.setattr(table.Table, "locked_by_id", look)
    settled = await kit.settle(claimed, FAIL, error="no", error_code="exception")
    assert settled is not None
    assert settled.status is CANC
    row = await kit.get(claimed.snapshot.id)
    assert (row.status, row.error_code, row.seq) == (CANC, "cancelled", claimed.snapshot.seq + 1)


async def test_owners_take_turns(kit: Kit) -> None:
    """Within a priority, an owner with few running goes first; a higher priority comes before."""
    crowd = [await kit.waiting(owner_id="many") for _ in range(6)]
    few = [await kit.waiting(owner_id="few") for _ in range(2)]
    unowned = await kit.waiting()
    urgent = await kit.waiting(owner_id="many", priority=5)
    plan = Lanes([QueueClaim("default", (NAME,), 4, running={"few": 1})])
    got = {it.snapshot.id for it in (await kit.ledger.claim(plan)).claimed}
    assert got == {urgent, unowned, few[0], crowd[0]}


async def test_of_very_many_owners_some_are_drawn(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim is filled however many there are, and no owner is left out for good."""
    monkeypatch.setattr(claims, "MOST_OWNERS", 3)
    rows = [await kit.waiting(owner_id=str(n % 8)) for n in range(24)]
    got: list[UUID] = []
    for _ in range(6):
        plan = Lanes([QueueClaim("default", (NAME,), 4, running={})])
        claimed = (await kit.ledger.claim(plan)).claimed
        assert len({it.snapshot.owner_id for it in claimed}) >= 3
        got += [it.snapshot.id for it in claimed]
    assert sorted(got) == sorted(rows)


async def test_a_holder_that_is_dead(kit: Kit, others: list[Kit]) -> None:
    """The first process frees its rows, once, each by its own columns."""
    holder = new_id()
    rows = {
        "again": new_execution(runtime_id=holder, token=new_id()),
        "once": new_execution(runtime_id=holder, token=new_id(), rerun_on_crash=False),
        "cancelled": new_execution(runtime_id=holder, token=new_id(), unique_key="k"),
    }
    for new in rows.values():
        await kit.create(new)
    await kit.cancel(rows["cancelled"].id)
    recovery = Recovery(holder, max_crashes=3, ttl=60.0, callback_hold=60.0)
    freed = await asyncio.gather(*(it.ledger.recoveries().recover(recovery, 10) for it in others))
    assert sum(map(len, freed)) == 3
    now = {name: await TaskExecution.objects.aget(id=new.id) for name, new in rows.items()}
    assert {name: row.status for name, row in now.items()} == {
        "again": RET, "once": FAIL, "cancelled": CANC,
    }  # fmt: skip
    assert [row.crashes for row in now.values()] == [1, 1, 1]
    assert (now["once"].error_code, now["cancelled"].error_code) == ("worker_lost", "cancelled")
    assert now["once"].callback_at is not None
    assert now["cancelled"].unique_key is None
    (late,) = (await kit.claim()).claimed
    assert await kit.send(outcome_of(late, DONE, token=rows["again"].token)) is None


async def test_more_than_one_insert_may_hold(kit: Kit) -> None:
    """A batch of big arguments is divided, not refused."""
    text = f'{{"text": "{"x" * 60_000}"}}'
    crowd = [new_execution(arguments=text) for _ in range(400)]
    made = await asyncio.gather(*map(kit.create, crowd))
    assert all(it.existing is None for it in made)
    assert await TaskExecution.objects.acount() == 400


@pytest.mark.parametrize(
    ("code", "passes"), [(1213, True), (2013, True), (1205, True), (1366, False), (1054, False)]
)
def test_errors_that_pass(ledger_kind: str, code: int, passes: bool) -> None:
    """A deadlock or a lost connection is retried; a lasting error fails the guilty row alone."""
    assert is_passing(code) is passes
