"""Every ledger changes the columns that `ledger.edges` names, to the values that it names.

Each test fills all columns of a row with old values, takes the row over one edge, and compares
every column: those of the edge with their new value, all others with the old one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger import edges
from rail_async_tasks.ledger.dispatch_records import DeliveryClaim, Dispatch
from rail_async_tasks.ledger.edges import Edge, Fixed, Given, Later, Now, Plus
from rail_async_tasks.ledger.memory.ledger import MemoryLedger
from rail_async_tasks.ledger.records import Claimed, Outcome, Progress, QueueClaim, Recovery
from rail_async_tasks.ledger.upkeep import Dispatches
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.states import FINAL, WAITING, Status
from tests.contract.conftest import ON_SQL
from tests.support.ledgers import NAME, Kit, Lanes, new_execution

Fields = dict[str, Any]
Act = Callable[[Kit, UUID], Awaitable[Fields]]

on_all = pytest.mark.parametrize("ledger_kind", ["memory", "portable", *ON_SQL], indirect=True)
on_sql = pytest.mark.parametrize("ledger_kind", ["portable", *ON_SQL], indirect=True)

HOLDER, TOKEN = UUID(int=7), UUID(int=8)
HOUR = timedelta(hours=1)
# A clock and a test differ by less.
NEAR = timedelta(seconds=60)


# --- rows and their columns -----------------------------------------------------------------------


def old_values(status: Status, **fields: Any) -> dict[str, Any]:
    """Every column with a value that no edge writes, as far as the table's constraints allow."""
    now = datetime.now(UTC)
    return {
        "status": status, "progress": 33, "progress_message": "old", "result": "old",
        "error": "old", "error_code": "old", "error_type": "old", "error_place": "old",
        "traceback": "old",
        "attempts": 4, "retry_count": 2, "crashes": 1, "cancel_requested": False,
        "unique_key": None if status in FINAL else "old",
        "language": "old", "traceparent": "old", "tracestate": "old",
        "seq": 9, "step": 5, "runtime_id": HOLDER, "token": TOKEN,
        "created_at": now - 9 * HOUR,
        "updated_at": now - 8 * HOUR, "started_at": now - 7 * HOUR, "run_after": None,
        "dispatched_at": now - 6 * HOUR if status in WAITING else None, "dispatched_to": "old",
        "dispatches": 3, "completed_at": now - 5 * HOUR if status in FINAL else None,
        "expires_at": now + 4 * HOUR, "callback_at": now - 3 * HOUR,
    } | fields  # fmt: skip


async def old_row(kit: Kit, status: Status, **fields: Any) -> UUID:
    """A row with the old values."""
    new = new_execution(owner_id="1", tenant_id="2", parent_id=new_id(), priority=3)
    await kit.create(new)
    values = old_values(status, **fields)
    if not isinstance(kit.ledger, MemoryLedger):
        await kit.here(lambda: TaskExecution.objects.filter(id=new.id).update(**values))
        return new.id
    store = kit.ledger.store
    row = store.rows[new.id]
    unseen = "unique_key", "runtime_id", "token", "language", "traceparent", "tracestate"
    for column in (*unseen, "traceback"):
        setattr(row, column, values[column])
    shown = {it: value for it, value in values.items() if hasattr(row.snapshot, it)}
    row.snapshot = msgspec.structs.replace(row.snapshot, **shown)
    if status in WAITING:
        store.wait(row)
    return new.id


async def columns(kit: Kit, execution_id: UUID) -> dict[str, Any]:
    """The row's columns, those that the ledger keeps."""
    if not isinstance(kit.ledger, MemoryLedger):
        rows = TaskExecution.objects.filter(id=execution_id).values()
        found: dict[str, Any] = await kit.here(rows.get)
        return found
    row = kit.ledger.store.rows[execution_id]
    kept = msgspec.structs.asdict(row)
    kept["arguments"] = msgspec.json.decode(row.arguments)
    return msgspec.structs.asdict(kept.pop("snapshot")) | kept


def differing(
    edge: Edge, before: dict[str, Any], after: dict[str, Any], given: Fields
) -> dict[str, tuple[Any, Any]]:
    """The columns that are not as the edge has them, with their values before and after."""
    now = datetime.now(UTC)

    def is_near(at: Any, expected: datetime) -> bool:
        return isinstance(at, datetime) and abs(at - expected) < NEAR

    def is_right(column: str) -> bool:
        old, new = before.get(column), after[column]
        match edge.columns.get(column):
            case None:
                return bool(new == old)
            case Fixed(value):
                return bool(new == value)
            case Given(name):
                return bool(new == given[name])
            case Plus(by):
                return bool(new == old + (given[by.name] if isinstance(by, Given) else by))
            case Now():
                return is_near(new, now)
            case Later(seconds, above_zero, otherwise):
                wait = given[seconds]
                if wait is None or (above_zero and not wait):
                    return bool(new == (None if otherwise is None else given[otherwise.name]))
                return is_near(new, now + timedelta(seconds=wait))
        raise AssertionError(column)

    return {it: (before.get(it), after[it]) for it in after if not is_right(it)}


async def takes(kit: Kit, edge: Edge, execution_id: UUID, act: Act) -> None:
    """Asserts that `act` takes the row over the edge."""
    before = await columns(kit, execution_id)
    given = await act(kit, execution_id)
    assert differing(edge, before, await columns(kit, execution_id), given) == {}


# --- creations ------------------------------------------------------------------------------------


@on_all
@pytest.mark.covering("ledger_kind", "fields", "here")
@pytest.mark.parametrize("here", [False, True])
@pytest.mark.parametrize(
    ("edge", "fields"),
    [
        (edges.CREATE, {}),
        (edges.CREATE, {"delay": 7200.0}),
        (edges.CREATE, {"run_after": datetime.now(UTC).replace(microsecond=0) + 9 * HOUR}),
        (edges.CREATE_CLAIMED, {"runtime_id": HOLDER, "token": TOKEN}),
    ],
)
async def test_creations(kit: Kit, edge: Edge, fields: dict[str, Any], here: bool) -> None:
    """Columns that the edge does not name are empty."""
    new = new_execution(
        owner_id="1", tenant_id="2", parent_id=new_id(), unique_key="k", priority=3,
        rerun_on_crash=False, language="de", traceparent="t", tracestate="s", **fields,
    )  # fmt: skip
    await (kit.here(kit.ledger.create_here, new) if here else kit.create(new))
    given = msgspec.structs.asdict(new) | {"arguments": msgspec.json.decode(new.arguments)}
    assert differing(edge, {}, await columns(kit, new.id), given) == {}


# --- claims ---------------------------------------------------------------------------------------


def by_queue(**fields: Any) -> Act:
    async def act(kit: Kit, row: UUID) -> Fields:
        plan = Lanes([QueueClaim("default", (NAME,), 5, **fields)])
        (claimed,) = (await kit.ledger.claim(plan)).claimed
        return {"runtime_id": plan.runtime_id, "token": claimed.token}

    return act


async def by_id(kit: Kit, row: UUID) -> Fields:
    given = {"runtime_id": new_id(), "token": new_id()}
    assert await kit.here(lambda: kit.ledger.claim_here(row, **given)) is not None
    return given


async def by_delivery(kit: Kit, row: UUID) -> Fields:
    delivery = DeliveryClaim(
        ids=[row], names=[NAME], runtime_id=new_id(), crashes=9, suspects=False
    )
    (claimed,) = (await dispatches(kit).claim(delivery)).claimed
    return {"runtime_id": delivery.runtime_id, "token": claimed.token}


@on_all
@pytest.mark.covering("ledger_kind", "act", "status")
@pytest.mark.parametrize("status", sorted(WAITING))
@pytest.mark.parametrize(
    "act", [by_queue(), by_queue(running={}), by_queue(crashes=1, suspect=True), by_id]
)
async def test_claims(kit: Kit, status: Status, act: Act) -> None:
    """By a queue: plain, fair between owners, of suspects alone. By id."""
    await takes(kit, edges.CLAIM, await old_row(kit, status), act)


@on_all
async def test_a_claim_by_id_of_a_delayed_row(kit: Kit) -> None:
    """It waits for no time any more."""
    row = await old_row(kit, Status.PENDING, run_after=datetime.now(UTC) + HOUR)
    await takes(kit, edges.CLAIM, row, by_id)


@on_sql
@pytest.mark.parametrize("wait", [None, -HOUR])
async def test_claims_of_deliveries(kit: Kit, wait: timedelta | None) -> None:
    """Also of a row whose time has come and that no stager has seen."""
    run_after = None if wait is None else datetime.now(UTC) + wait
    row = await old_row(kit, Status.RETRYING, run_after=run_after)
    await takes(kit, edges.CLAIM, row, by_delivery)


# --- writes by an attempt -------------------------------------------------------------------------


def settles(status: Status, *, here: bool, **fields: Any) -> Act:
    values: dict[str, Any] = {
        "progress": 44, "progress_message": "new", "result": '"new"', "error": "new",
        "error_code": "exception", "error_type": "ValueError", "error_place": "new",
        "traceback": "new",
        "retried": 1, "delay": 600.0, "ttl": 7200.0, "callback_hold": 5400.0,
    } | fields  # fmt: skip

    async def act(kit: Kit, row: UUID) -> Fields:
        outcome = Outcome(id=row, token=TOKEN, status=status, **values)
        if here:
            settled = await kit.here(kit.ledger.settle_here, outcome)
        else:
            settled = await kit.send(outcome)
        assert settled is not None
        return values | {"result": "new"}

    return act


@on_all
@pytest.mark.covering("ledger_kind", "end", "fields", "here")
@pytest.mark.parametrize("here", [False, True])
@pytest.mark.parametrize("fields", [{}, {"ttl": None, "callback_hold": None, "delay": 0.0}])
@pytest.mark.parametrize(
    "end",
    [
        (Status.COMPLETED, False, edges.COMPLETE),
        (Status.COMPLETED, True, edges.COMPLETE),
        (Status.FAILED, False, edges.FAIL),
        (Status.FAILED, True, edges.ACKNOWLEDGE_CANCEL),
        (Status.RETRYING, False, edges.RETRY),
        (Status.RETRYING, True, edges.ACKNOWLEDGE_CANCEL),
    ],
    ids=lambda end: f"{end[2].name} {end[0]}",
)
async def test_outcomes(
    kit: Kit, end: tuple[Status, bool, Edge], fields: dict[str, Any], here: bool
) -> None:
    """With and without a time to live, a reserved callback and a delay."""
    status, cancel_requested, edge = end
    row = await old_row(kit, Status.RUNNING, cancel_requested=cancel_requested)
    await takes(kit, edge, row, settles(status, here=here, **fields))


@on_all
@pytest.mark.parametrize("here", [False, True])
async def test_progress(kit: Kit, here: bool) -> None:
    """It leaves `seq` as it is."""
    given = {"progress": 44, "step": 6, "progress_message": "new"}

    async def act(kit: Kit, row: UUID) -> Fields:
        if here:
            await kit.here(kit.ledger.progress_here, Progress(id=row, token=TOKEN, **given))
        else:
            claimed = Claimed(await kit.get(row), "{}", TOKEN)
            await kit.progress(claimed, 44, 6, progress_message="new")
        return given

    await takes(kit, edges.PROGRESS, await old_row(kit, Status.RUNNING), act)


# --- cancel ---------------------------------------------------------------------------------------


def cancels(ttl: float | None) -> Act:
    async def act(kit: Kit, row: UUID) -> Fields:
        assert (await kit.cancel(row, ttl)).changed
        return {"ttl": ttl}

    return act


@on_all
@pytest.mark.covering("ledger_kind", "status", "wait", "ttl")
@pytest.mark.parametrize("ttl", [7200.0, None])
@pytest.mark.parametrize("wait", [None, HOUR])
@pytest.mark.parametrize("status", sorted(WAITING))
async def test_a_cancel_of_a_waiting_row(
    kit: Kit, status: Status, wait: timedelta | None, ttl: float | None
) -> None:
    """It ends."""
    run_after = None if wait is None else datetime.now(UTC) + wait
    row = await old_row(kit, status, run_after=run_after)
    await takes(kit, edges.CANCEL_WAITING, row, cancels(ttl))


@on_all
async def test_a_cancel_of_a_running_row(kit: Kit) -> None:
    """It is flagged."""
    row = await old_row(kit, Status.RUNNING)
    await takes(kit, edges.FLAG_CANCEL, row, cancels(7200.0))


# --- by another process ---------------------------------------------------------------------------


@on_sql
@pytest.mark.covering("ledger_kind", "fields", "seconds")
@pytest.mark.parametrize("seconds", [{"ttl": 7200.0, "callback_hold": 5400.0}, {"ttl": None}])
@pytest.mark.parametrize(
    ("edge", "fields"),
    [
        (edges.RERUN_LOST, {}),
        (edges.FAIL_LOST, {"rerun_on_crash": False}),
        (edges.FAIL_LOST, {"crashes": 3}),
        (edges.CANCEL_LOST, {"cancel_requested": True}),
    ],
)
async def test_recovery(
    kit: Kit, edge: Edge, fields: dict[str, Any], seconds: dict[str, Any]
) -> None:
    """Each row as its own columns have it."""
    recovery = Recovery(HOLDER, max_crashes=3, **seconds)

    async def act(kit: Kit, row: UUID) -> Fields:
        assert len(await kit.recoveries.recover(recovery, 5)) == 1
        return {"ttl": recovery.ttl, "callback_hold": recovery.callback_hold}

    await takes(kit, edge, await old_row(kit, Status.RUNNING, **fields), act)


@on_sql
@pytest.mark.parametrize("seconds", [{"ttl": 7200.0, "callback_hold": 5400.0}, {"ttl": None}])
async def test_an_unknown_name(kit: Kit, seconds: dict[str, Any]) -> None:
    """The row fails."""
    given = {"callback_hold": None} | seconds

    async def act(kit: Kit, row: UUID) -> Fields:
        (failed,) = await kit.recoveries.fail_unknown(NAME, given["ttl"], given["callback_hold"], 5)
        return given | {"error": failed.error}

    row = await old_row(kit, Status.PENDING, run_after=datetime.now(UTC) + HOUR)
    await takes(kit, edges.FAIL_UNKNOWN, row, act)


# --- within a state -------------------------------------------------------------------------------


async def stages(kit: Kit, row: UUID) -> Fields:
    await kit.claim("another queue")
    return {}


@on_all
async def test_staging(kit: Kit) -> None:
    """Clears the time that has come."""
    row = await old_row(kit, Status.RETRYING, run_after=datetime.now(UTC) - HOUR)
    await takes(kit, edges.STAGE, row, stages)


def dispatches(kit: Kit) -> Dispatches:
    found = kit.ledger.dispatches()
    assert found is not None
    return found


async def sends(kit: Kit, row: UUID) -> Fields:
    assert len(await dispatches(kit).send("default", "new", 5, 5)) == 1
    return {"backend": "new"}


async def unsends(kit: Kit, row: UUID) -> Fields:
    assert await dispatches(kit).unsend([Dispatch(row, NAME, "default", 3, 3)]) == []
    return {}


async def releases(kit: Kit, row: UUID) -> Fields:
    assert await dispatches(kit).release([row]) == set()
    return {}


async def keeps(kit: Kit, row: UUID) -> Fields:
    await kit.callbacks.keep([row], 900.0)
    return {"hold": 900.0}


async def takes_overdue(kit: Kit, row: UUID) -> Fields:
    assert len(await kit.callbacks.take_overdue(900.0, 5, ())) == 1
    return {"hold": 900.0}


async def made(kit: Kit, row: UUID) -> Fields:
    assert await kit.callbacks.made([row]) == set()
    return {}


async def made_here(kit: Kit, row: UUID) -> Fields:
    await kit.here(kit.callbacks.made_here, row)
    return {}


@on_sql
@pytest.mark.parametrize(
    ("edge", "status", "act"),
    [
        (edges.DISPATCH, Status.PENDING, sends),
        (edges.UNSEND, Status.RETRYING, unsends),
        (edges.RELEASE, Status.PENDING, releases),
        (edges.KEEP_CALLBACK, Status.FAILED, keeps),
        (edges.KEEP_CALLBACK, Status.FAILED, takes_overdue),
        (edges.CALLBACK_MADE, Status.FAILED, made),
        (edges.CALLBACK_MADE, Status.FAILED, made_here),
    ],
)
async def test_dispatches_and_callbacks(kit: Kit, edge: Edge, status: Status, act: Act) -> None:
    """They leave the state as it is."""
    await takes(kit, edge, await old_row(kit, status), act)
