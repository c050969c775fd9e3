"""The ledger in a database: an audit row for each edge, in the transaction of the edge itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from asgiref.sync import sync_to_async
from django.db import DatabaseError, connection, transaction
from django.test.utils import CaptureQueriesContext

from rail_async_tasks.db_connections import DriverCursor
from rail_async_tasks.errors import TablesMissing
from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.options import LedgerOptions
from rail_async_tasks.ledger.orm.ledger import OrmLedger
from rail_async_tasks.ledger.records import Claimed, QueueClaim, Recovery
from rail_async_tasks.ledger.sql.dialects import EVENTS
from rail_async_tasks.models import TaskEvent, TaskExecution
from rail_async_tasks.states import Status
from tests.contract.conftest import ON_SQL
from tests.support.ledgers import (
    NAME,
    Kit,
    Lanes,
    answer,
    claimed_at_birth,
    new_execution,
    outcome_of,
)

pytestmark = pytest.mark.parametrize("ledger_kind", ON_SQL, indirect=True)

P, RUN, RET = Status.PENDING, Status.RUNNING, Status.RETRYING
DONE, FAIL, CANC = Status.COMPLETED, Status.FAILED, Status.CANCELLED

Line = tuple[int, str | None, str, int, str, str | None]


UNAUDITED = pytest.mark.parametrize("ledger_options", [LedgerOptions()])


@pytest.fixture
def ledger_options() -> LedgerOptions:
    return LedgerOptions(audit=True)


async def lines(execution_id: UUID) -> list[Line]:
    """seq, from, to, attempt, reason and actor of each event, in their order."""
    events = TaskEvent.objects.filter(execution_id=execution_id).order_by("seq", "id")
    return [
        (it.seq, it.from_status, it.to_status, it.attempt, it.reason, it.actor)
        async for it in events
    ]


async def retrying(kit: Kit) -> Claimed:
    return await kit.in_state(RET)


# --- the edges ------------------------------------------------------------------------------------


async def test_creation(kit: Kit) -> None:
    """By whom it was asked for. A row that is born claimed has two, the first with no attempt."""
    waiting = new_execution(actor="7", owner_id="8", tenant_id="blue")
    born = claimed_at_birth(actor="system")
    await asyncio.gather(kit.create(waiting), kit.create(born))
    assert await lines(waiting.id) == [(1, None, "pending", 0, "created", "7")]
    mine = f"runtime:{born.runtime_id}"
    assert await lines(born.id) == [
        (1, None, "pending", 0, "created", "system"),
        (2, "pending", "running", 1, "claimed", mine),
    ]
    event = await TaskEvent.objects.aget(execution_id=waiting.id)
    row = await kit.get(waiting.id)
    assert (event.name, event.owner_id, event.tenant_id) == (NAME, "8", "blue")
    assert event.at == row.created_at


@pytest.mark.parametrize("before", [P, RET])
async def test_claim(kit: Kit, before: Status) -> None:
    """From the line and by id, from either waiting state, by the runtime that claims."""
    attempt = 1 if before is P else 2
    seq = 2 if before is P else 4
    one, other = await kit.in_state(before), await kit.in_state(before, queue="other")
    plan = Lanes([QueueClaim("default", (NAME,), 10)])
    await kit.ledger.claim(plan)
    holder = new_id()
    await kit.here(kit.ledger.claim_here, other.snapshot.id, holder, new_id())
    for it, runtime_id in ((one, plan.runtime_id), (other, holder)):
        expected = (seq, before, "running", attempt, "claimed", f"runtime:{runtime_id}")
        assert (await lines(it.snapshot.id))[-1] == expected


OUTCOMES: list[tuple[Status, dict[str, Any], str]] = [
    (DONE, {"result": "1"}, "completed"),
    (FAIL, {"error": "no", "error_code": "timeout"}, "timeout"),
    (RET, {"error": "no", "error_code": "exception", "retried": 1}, "retrying"),
    (RET, {}, "handed_back"),
]


@pytest.mark.parametrize("inline", [False, True])
@pytest.mark.parametrize(("status", "fields", "reason"), OUTCOMES)
async def test_outcome(
    kit: Kit, status: Status, fields: dict[str, Any], reason: str, inline: bool
) -> None:
    """By a writer and in the caller's thread."""
    claimed = await kit.running()
    outcome = outcome_of(claimed, status, **fields)
    settled = await (kit.here(kit.ledger.settle_here, outcome) if inline else kit.send(outcome))
    assert settled is not None
    *_, last = await lines(claimed.snapshot.id)
    assert last == (3, "running", status, 1, reason, "runtime")
    event = await TaskEvent.objects.filter(execution_id=claimed.snapshot.id).alatest("seq")
    assert event.at == settled.at


@pytest.mark.parametrize("before", [P, RET])
async def test_cancel_of_what_waits(kit: Kit, before: Status) -> None:
    """By whom it was asked for."""
    claimed = await kit.in_state(before)
    await kit.here(kit.ledger.cancel, claimed.snapshot.id, None, "7")
    *_, last = await lines(claimed.snapshot.id)
    seq, attempt = (2, 0) if before is P else (4, 1)
    assert last == (seq, before, "cancelled", attempt, "cancelled", "7")


async def test_cancel_of_what_runs(kit: Kit) -> None:
    """The request is an event, of the first who asked; its outcome is another."""
    claimed = await kit.running()
    for actor in ("7", "8"):
        await kit.here(kit.ledger.cancel, claimed.snapshot.id, None, actor)
    await kit.settle(claimed, FAIL, error_code="exception")
    assert (await lines(claimed.snapshot.id))[2:] == [
        (2, "running", "running", 1, "cancel_requested", "7"),
        (3, "running", "cancelled", 1, "cancelled", "runtime"),
    ]
    before = await lines(claimed.snapshot.id)
    await kit.here(kit.ledger.cancel, claimed.snapshot.id, None, "9")
    assert await lines(claimed.snapshot.id) == before


async def test_recovery(kit: Kit) -> None:
    """To each of its three ends."""
    lost, again, cancelled = [await kit.running() for _ in range(3)]
    await TaskExecution.objects.filter(id=lost.snapshot.id).aupdate(crashes=2)
    await kit.cancel(cancelled.snapshot.id)
    gone = new_id()
    await TaskExecution.objects.aupdate(runtime_id=gone)
    await kit.recoveries.recover(Recovery(gone, 2, None), 10)
    for it, status in ((lost, FAIL), (again, RET), (cancelled, CANC)):
        *_, last = await lines(it.snapshot.id)
        assert last == (3, "running", status, 1, "worker_lost", "recovery")


async def test_unknown_name(kit: Kit) -> None:
    """From either waiting state."""
    fresh, tried = await kit.in_state(P), await kit.in_state(RET)
    await kit.recoveries.fail_unknown(NAME, None, None, 10)
    for it, seq, before, attempt in ((fresh, 2, P, 0), (tried, 4, RET, 1)):
        *_, last = await lines(it.snapshot.id)
        assert last == (seq, before, "failed", attempt, "unknown_task", "runtime")


async def test_tick(kit: Kit) -> None:
    """An attempt that runs by itself."""
    at = datetime.now(UTC)
    await kit.ledger.schedule("s", at - timedelta(hours=1))
    new = new_execution(actor="cron")
    assert await kit.ledger.tick("s", at, new) is not None
    assert await kit.ledger.tick("s", at, new_execution(actor="cron")) is None
    assert await lines(new.id) == [(1, None, "pending", 0, "created", "cron")]
    assert await TaskEvent.objects.acount() == 1


# --- what is no edge ------------------------------------------------------------------------------


async def test_a_change_of_nothing_is_not_audited(kit: Kit) -> None:
    """A stranger's outcome, progress, a second claim, a taken key, a creation sent twice."""
    claimed = await kit.running(unique_key="k")
    before = await lines(claimed.snapshot.id)
    stranger = Claimed(claimed.snapshot, "{}", new_id())
    assert await kit.settle(stranger, DONE) is None
    await kit.progress(claimed, 50, step=1)
    assert await kit.here(kit.ledger.claim_here, claimed.snapshot.id, new_id(), new_id()) is None
    again = new_execution(unique_key="k")
    assert (await kit.create(again)).existing is not None
    twice = new_execution()
    await kit.create(twice)
    await kit.create(twice)
    assert await lines(claimed.snapshot.id) == before
    assert await lines(again.id) == []
    assert len(await lines(twice.id)) == 1


async def test_nothing_of_the_content_is_in_it(kit: Kit) -> None:
    """No argument, result, message or error: an audit is read by more people than the tasks are."""
    claimed = await kit.running(arguments='{"card": "SECRET"}')
    await kit.progress(claimed, 5, step=1, progress_message="SECRET")
    await kit.settle(
        claimed, FAIL, error="SECRET", error_code="exception", traceback="SECRET",
        progress_message="SECRET",
    )  # fmt: skip
    rows = await sync_to_async(lambda: list(TaskEvent.objects.values()))()
    assert len(rows) == 3
    assert "SECRET" not in repr(rows)


# --- the same transaction -------------------------------------------------------------------------


class RolledBack(Exception):
    """Leaves a transaction."""


@contextmanager
def rolled_back() -> Iterator[None]:
    with suppress(RolledBack), transaction.atomic():
        yield
        raise RolledBack


def test_a_rollback_of_the_callers_takes_the_events_along(
    ledger_options: LedgerOptions, ledger_kind: str
) -> None:
    """Of each edge that is made in the caller's transaction."""
    ledger, kept = OrmLedger(options=lambda: ledger_options), new_execution()
    ledger.create_here(kept)
    running = new_execution()
    ledger.create_here(running)
    claimed = ledger.claim_here(running.id, new_id(), new_id())
    assert claimed is not None
    before = TaskEvent.objects.count()
    edges: list[Callable[[], object]] = [
        lambda: ledger.create_here(new_execution()),
        lambda: ledger.claim_here(kept.id, new_id(), new_id()),
        lambda: ledger.settle_here(outcome_of(claimed, DONE)),
        lambda: ledger.cancel(kept.id, None, "7"),
        lambda: ledger.cancel(running.id, None, "7"),
    ]
    for edge in edges:
        with rolled_back():
            edge()
            assert TaskEvent.objects.count() == before + 1
        assert TaskEvent.objects.count() == before


async def test_an_event_that_cannot_be_stored_undoes_its_edge(kit: Kit) -> None:
    """Each change is in the audit, or does not happen."""
    waiting, running = await kit.waiting(), await kit.running()
    gone = new_id()
    claims = await kit.claim("no such queue")
    assert claims.claimed == []
    was = {it.id: it async for it in TaskExecution.objects.values_list("id", "seq", named=True)}

    def rename(old: str, new: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {old} RENAME TO {new}")

    await sync_to_async(rename)(EVENTS, "elsewhere")
    try:
        new, born = new_execution(), claimed_at_birth(unique_key="k")
        for attempt in (
            kit.create(new),
            kit.create(born),
            kit.claim(),
            kit.settle(running, DONE),
            kit.here(kit.ledger.cancel, waiting, None, "7"),
            kit.here(kit.ledger.claim_here, waiting, gone, new_id()),
            kit.here(kit.ledger.create_here, new_execution()),
            kit.here(kit.ledger.settle_here, outcome_of(running, DONE)),
            kit.recoveries.recover(Recovery(await holder_of(running), 2, None), 10),
            kit.recoveries.fail_unknown(NAME, None, None, 10),
        ):
            with pytest.raises((DatabaseError, TablesMissing)):
                await attempt
    finally:
        await sync_to_async(rename)("elsewhere", EVENTS)
    now = {it.id: it async for it in TaskExecution.objects.values_list("id", "seq", named=True)}
    assert now == was


async def holder_of(claimed: Claimed) -> UUID:
    row = await TaskExecution.objects.aget(id=claimed.snapshot.id)
    assert row.runtime_id is not None
    return row.runtime_id


async def test_a_bad_row_fails_alone_and_unaudited(kit: Kit) -> None:
    """Its neighbours in the batch are created, each with one event."""
    crowd = [new_execution() for _ in range(9)]
    crowd[4] = new_execution(arguments="no JSON")
    results = await asyncio.gather(*map(kit.create, crowd), return_exceptions=True)
    assert isinstance(results[4], DatabaseError)
    assert [len(await lines(new.id)) for new in crowd] == [1, 1, 1, 1, 0, 1, 1, 1, 1]


# --- what it costs --------------------------------------------------------------------------------


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch, ledger_kind: str) -> list[str]:
    """The statements of the writers, as they are sent."""
    if ledger_kind == "mariadb":
        pytest.skip("The portable path sends a statement for each row.")
    statements: list[str] = []
    original = DriverCursor.execute

    def execute(cursor: DriverCursor, statement: str, params: Any = None) -> None:
        statements.append(" ".join(statement.split()[:3]))
        original(cursor, statement, params)

    monkeypatch.setattr(DriverCursor, "execute", execute)
    return statements


async def the_hot_path(kit: Kit) -> None:
    new = claimed_at_birth()
    await kit.create(new)
    claimed = Claimed(await kit.get(new.id), "{}", new.token or new_id())
    await kit.settle(claimed, FAIL, error="no", error_code="exception")


@UNAUDITED
async def test_switched_off_it_costs_no_statement(kit: Kit, sent: list[str]) -> None:
    """One for the creation and one for the outcome, neither in a BEGIN and COMMIT; no row."""
    await the_hot_path(kit)
    assert len(sent) == 2, sent
    assert sent[0] in ("INSERT INTO rail_async_tasks_execution", "WITH made AS")
    assert await TaskEvent.objects.acount() == 0
    del sent[:]
    await kit.waiting()
    await kit.claim()
    assert not [it for it in sent if it.startswith(("BEGIN", f"INSERT INTO {EVENTS}"))]


@UNAUDITED
def test_switched_off_it_costs_the_caller_no_statement(
    ledger_options: LedgerOptions, ledger_kind: str
) -> None:
    """Of what is written in a thread that is not a writer's."""
    ledger = OrmLedger(options=lambda: ledger_options)
    with CaptureQueriesContext(connection) as queries:
        for new in (new_execution(), new_execution()):
            ledger.create_here(new)
            claimed = ledger.claim_here(new.id, new_id(), new_id())
            assert claimed is not None
            ledger.cancel(new.id, None, "7")
            ledger.settle_here(outcome_of(claimed, DONE))
    assert not [it for it in queries.captured_queries if EVENTS in it["sql"]]


async def test_a_batch_is_audited_in_one_statement(kit: Kit, sent: list[str]) -> None:
    """However many rows it has."""
    crowd = [claimed_at_birth() for _ in range(200)]
    await asyncio.gather(*map(kit.create, crowd))
    claims = [Claimed(await kit.get(it.id), "{}", it.token or new_id()) for it in crowd]
    await asyncio.gather(*(answer_of(kit, it) for it in claims))
    assert await TaskEvent.objects.acount() == 600
    inserts = sent.count(f"INSERT INTO {EVENTS}")
    assert inserts == sent.count("COMMIT")
    assert inserts <= 20


async def answer_of(kit: Kit, claimed: Claimed) -> None:
    outcome = outcome_of(claimed, DONE)
    assert await answer(lambda done: kit.ledger.settle(outcome, done)) is not None


# --- retention ------------------------------------------------------------------------------------


def event(age: timedelta) -> TaskEvent:
    return TaskEvent(
        execution_id=new_id(), name="old", seq=1, to_status="pending", attempt=0, reason="created",
        at=datetime.now(UTC) - age,
    )  # fmt: skip


async def test_old_events_go_in_batches(kit: Kit) -> None:
    """The oldest first, at most so many at a time; two processes share them."""
    day = timedelta(days=1)
    await TaskEvent.objects.abulk_create([event(day * n) for n in (1, 2, 3, 4, 5, 6, 7, 8, 9)])
    assert await kit.ledger.audit_log().delete(6.5, 2) == 2
    assert await TaskEvent.objects.acount() == 7
    left = await TaskEvent.objects.order_by("at").afirst()
    assert left is not None
    assert datetime.now(UTC) - left.at < day * 7.5
    other = OrmLedger()
    other.start()
    try:
        counts = await asyncio.gather(
            *(it.audit_log().delete(2.5, 2) for it in (kit.ledger, other) for _ in range(3))
        )
    finally:
        await other.stop()
    assert sum(counts) + await kit.ledger.audit_log().delete(2.5, 10) == 5
    assert await TaskEvent.objects.acount() == 2
    assert await kit.ledger.audit_log().delete(2.5, 2) == 0


async def test_events_outlive_their_execution(kit: Kit) -> None:
    """Deleting it takes none of them along."""
    claimed = await kit.running()
    await kit.settle(claimed, DONE, ttl=-1.0)
    before = await lines(claimed.snapshot.id)
    assert await kit.ledger.delete_expired(10) == 1
    assert await lines(claimed.snapshot.id) == before
    assert len(before) == 3
