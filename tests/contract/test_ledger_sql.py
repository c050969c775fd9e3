"""The ledger in a database: the caller's transaction, guilty rows, the project's time zone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction

from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.orm.ledger import OrmLedger
from rail_async_tasks.ledger.records import Claimed
from rail_async_tasks.ledger.snapshots import as_created
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.states import Status
from tests.contract.conftest import ON_MARIADB, ON_POSTGRES, ON_SQL
from tests.support.ledgers import Kit, claimed_at_birth, new_execution, outcome_of
from tests.support.waiting import TIMEOUT

on_sql = pytest.mark.parametrize("ledger_kind", ON_SQL, indirect=True)
on_sqlite = pytest.mark.parametrize("ledger_kind", ["sqlite"], indirect=True)
on_servers = pytest.mark.parametrize("ledger_kind", [ON_POSTGRES, ON_MARIADB], indirect=True)


class RolledBack(Exception):
    """Leaves a transaction."""


@contextmanager
def rolled_back() -> Iterator[None]:
    """A transaction that fails at its end."""
    with suppress(RolledBack), transaction.atomic():
        yield
        raise RolledBack


# --- in the caller's transaction ------------------------------------------------------------------


@on_sql
def test_create_here_commits_with_the_caller(ledger_kind: str) -> None:
    """The callback waits for the commit; the row reads as it is rendered."""
    ledger, new, heard = OrmLedger(), new_execution(), []
    with transaction.atomic():
        assert ledger.in_transaction()
        created = ledger.create_here(new)
        ledger.on_commit(lambda: heard.append(new.id))
        assert ledger.get(new.id) == as_created(new, created)
        assert heard == []
    assert heard == [new.id]
    assert not ledger.in_transaction()
    assert ledger.get(new.id) == as_created(new, created)


@on_sql
def test_create_here_rolls_back_with_the_caller(ledger_kind: str) -> None:
    """No row, no callback."""
    ledger, new, heard = OrmLedger(), new_execution(), []
    with rolled_back():
        ledger.create_here(new)
        ledger.on_commit(lambda: heard.append(new.id))
    assert heard == []
    assert ledger.get(new.id) is None


@on_sql
def test_a_taken_key_does_not_break_the_callers_transaction(ledger_kind: str) -> None:
    """The existing row comes back, and the caller's own work still commits."""
    ledger = OrmLedger()
    first = new_execution(unique_key="k")
    ledger.create_here(first)
    other = new_execution()
    with transaction.atomic():
        created = ledger.create_here(new_execution(unique_key="k"))
        ledger.create_here(other)
    assert created.existing == ledger.get(first.id)
    assert TaskExecution.objects.count() == 2


@on_sql
def test_without_a_transaction_on_commit_is_at_once(ledger_kind: str) -> None:
    """There is nothing to wait for."""
    heard: list[int] = []
    OrmLedger().on_commit(lambda: heard.append(1))
    assert heard == [1]


@on_sql
def test_a_callback_that_fails_does_not_fail_the_caller(
    ledger_kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The work is committed: a failed wake-up is logged, and the row is found anyway."""
    with transaction.atomic():
        OrmLedger().on_commit(lambda: 1 // 0)  # type: ignore[arg-type, return-value]
    assert "ZeroDivisionError" in caplog.text


@on_sql
def test_an_attempt_inline_is_part_of_the_callers_transaction(ledger_kind: str) -> None:
    """Claim, progress and outcome roll back together with the row they are about."""
    ledger, new = OrmLedger(), new_execution()
    with rolled_back():
        ledger.create_here(new)
        claimed = ledger.claim_here(new.id, new_id(), new_id())
        assert claimed is not None
        settled = ledger.settle_here(outcome_of(claimed, Status.COMPLETED))
        assert settled is not None
        assert settled.status is Status.COMPLETED
    assert ledger.get(new.id) is None


# --- guilty rows ----------------------------------------------------------------------------------


@on_sql
async def test_a_bad_row_fails_alone(kit: Kit) -> None:
    """One that the database refuses, in the middle of a batch: its neighbours are created."""
    crowd = [new_execution() for _ in range(9)]
    crowd[4] = new_execution(arguments="no JSON")
    results = await asyncio.gather(*map(kit.create, crowd), return_exceptions=True)
    assert isinstance(results[4], DatabaseError)
    found = await kit.ledger.reread([new.id for new in crowd])
    assert {it.id for it in found} == {new.id for n, new in enumerate(crowd) if n != 4}


@on_sql
async def test_a_bad_outcome_fails_alone(kit: Kit) -> None:
    """The others are accepted once each; the row of the bad one still runs."""
    claims = []
    for _ in range(5):
        new = claimed_at_birth()
        await kit.create(new)
        claims.append(Claimed(await kit.get(new.id), "{}", new.token or new_id()))
    outcomes = [outcome_of(it, Status.FAILED, progress=5) for it in claims]
    outcomes[2] = outcome_of(claims[2], Status.FAILED, progress=101)
    results = await asyncio.gather(*map(kit.send, outcomes), return_exceptions=True)
    assert isinstance(results[2], DatabaseError)
    for number, claimed in enumerate(claims):
        row = await kit.get(claimed.snapshot.id)
        assert (row.status, row.seq) == (("running", 2) if number == 2 else ("failed", 3))
    settled = await kit.settle(claims[2], Status.COMPLETED)
    assert settled is not None


@on_servers
async def test_a_row_that_another_has_locked_holds_up_no_neighbour_for_good(kit: Kit) -> None:
    """It is left out of the batch and settled once it is free."""
    held, free = await kit.running(), await kit.running()
    locked, release = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            TaskExecution.objects.select_for_update().get(id=held.snapshot.id)
            locked.set()
            release.wait(2 * TIMEOUT)
        connection.close()

    thread = threading.Thread(target=hold)
    thread.start()
    await asyncio.to_thread(locked.wait, TIMEOUT)
    both = asyncio.gather(kit.settle(free, Status.COMPLETED), kit.settle(held, Status.COMPLETED))
    while (await kit.get(free.snapshot.id)).status != Status.COMPLETED:
        pass  # each look goes through the database
    assert (await kit.get(held.snapshot.id)).status == Status.RUNNING
    release.set()
    settled = await both
    thread.join()
    assert [it is not None and it.status for it in settled] == [Status.COMPLETED] * 2


# --- clocks ---------------------------------------------------------------------------------------


@pytest.fixture(params=["America/Chicago", "Asia/Kolkata"])
def without_time_zones(request: pytest.FixtureRequest, settings: Any) -> str:
    settings.USE_TZ = False
    settings.TIME_ZONE = request.param
    return str(request.param)


@on_sql
async def test_without_use_tz_times_are_still_right(
    without_time_zones: str, ledger_kind: str, kit: Kit
) -> None:
    """A project that keeps local times: due rows are due, snapshots are in UTC, nothing expires."""
    now = datetime.now(UTC)
    later = now + timedelta(hours=1)
    delayed, at, due = new_execution(delay=3600.0), new_execution(run_after=later), new_execution()
    for new in (delayed, at, due):
        created = await kit.create(new)
        assert created == await kit.create(new)
        assert await kit.get(new.id) == as_created(new, created)
        assert abs(created.at - now) < timedelta(minutes=10)
    assert (await kit.get(at.id)).run_after == later
    (claimed,) = (await kit.claim()).claimed
    assert claimed.snapshot == await kit.get(due.id)
    settled = await kit.settle(claimed, Status.COMPLETED, ttl=3600.0)
    assert settled is not None
    row = await kit.get(due.id)
    assert (row.completed_at, row.expires_at) == (settled.at, settled.expires_at)
    assert abs(settled.at - now) < timedelta(minutes=10)
    cancelled = await kit.cancel(delayed.id, ttl=3600.0)
    assert cancelled.snapshot == await kit.get(delayed.id)
    assert cancelled.snapshot.completed_at is not None
    assert abs(cancelled.snapshot.completed_at - now) < timedelta(minutes=10)
    past = new_execution(run_after=now - timedelta(minutes=1))
    await kit.create(past)
    assert [it.snapshot.id for it in (await kit.claim()).claimed] == [past.id]


@on_sqlite
async def test_times_sort_as_text_on_sqlite(kit: Kit) -> None:
    """Microseconds of Python and milliseconds of SQLite compare as the times do."""
    now = datetime.now(UTC).replace(microsecond=0)
    for microseconds in (0, 1, 999, 1000, 999_999):
        new = new_execution(run_after=now - timedelta(hours=1, microseconds=microseconds))
        assert (await kit.create(new)).run_after == new.run_after
    assert len((await kit.claim()).claimed) == 5
