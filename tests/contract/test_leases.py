"""Leases: one renewal tells a process what it must know of the others."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models import F

from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.records import INLINE_HOLDER, NOTHING_KNOWN, Vitals
from rail_async_tasks.models import TaskExecution, TaskRuntime
from tests.contract.conftest import ON_POSTGRES, ON_SQL
from tests.support.ledgers import Kit

on_sql = pytest.mark.parametrize("ledger_kind", [*ON_SQL, "portable"], indirect=True)


@on_sql
async def test_a_renewal_shows_what_has_become_of_the_others(kit: Kit) -> None:
    """A lease that has lapsed, and holders of running rows that are not alive."""
    leases = kit.ledger.leases()
    assert leases is not None
    mine, other, unknown = new_id(), new_id(), new_id()
    held = [(await kit.running()).snapshot.id for _ in range(3)]

    def look() -> None:
        for execution_id, holder in zip(held, (other, unknown, INLINE_HOLDER), strict=True):
            TaskExecution.objects.filter(id=execution_id).update(runtime_id=holder)
        leases.begin(mine, [], 600.0)
        leases.begin(other, [], 600.0)
        found = leases.renew(mine, 600.0, Vitals(role="worker"))
        assert (found.alive, found.silent, found.others) == (True, False, True)
        assert found.dead_holders == {unknown}
        past = {"lapses_at": F("lapses_at") - timedelta(hours=1)}
        TaskRuntime.objects.update(**past)
        found = leases.renew(mine, 600.0, NOTHING_KNOWN)
        assert (found.alive, found.silent) == (True, True)  # this one's own lapse is over
        assert leases.condemn() == 1
        found = leases.renew(mine, 600.0, NOTHING_KNOWN)
        assert (found.silent, found.dead_holders) == (False, {unknown, other})
        leases.end(mine)
        assert not leases.renew(mine, 600.0, NOTHING_KNOWN).alive
        leases.reset()

    await kit.here(look)


@pytest.mark.parametrize("ledger_kind", [ON_POSTGRES], indirect=True)
async def test_a_renewal_is_one_statement(kit: Kit) -> None:
    """Every process of a project sends it, in the fifth part of a lease, all its life."""
    leases = kit.ledger.leases()
    assert leases is not None
    mine, statements = new_id(), list[str]()

    def count(execute: Any, sql: str, *args: Any) -> Any:
        statements.append(sql)
        return execute(sql, *args)

    def look() -> None:
        leases.begin(mine, [], 600.0)
        with connection.execute_wrapper(count):
            found = leases.renew(mine, 600.0, NOTHING_KNOWN)
        assert not found.others
        assert len(statements) == 1
        leases.reset()

    await kit.here(look)
