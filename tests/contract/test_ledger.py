"""Every ledger: the edges between the states and their guards."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.records import Claimed
from rail_async_tasks.ledger.snapshots import as_created, as_settled
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.states import FINAL, WAITING, Status
from tests.support.ledgers import Kit, claimed_at_birth, differing, new_execution, outcome_of

P, RUN, RET = Status.PENDING, Status.RUNNING, Status.RETRYING
DONE, FAIL, CANC = Status.COMPLETED, Status.FAILED, Status.CANCELLED
MINUTE = timedelta(minutes=1)


async def claim(kit: Kit, claimed: Claimed) -> None:
    due = await kit.claim(claimed.snapshot.queue)
    assert [it.snapshot.id for it in due.claimed] in ([], [claimed.snapshot.id])


async def claim_by_id(kit: Kit, claimed: Claimed) -> None:
    await kit.here(kit.ledger.claim_here, claimed.snapshot.id, new_id(), new_id())


async def cancel(kit: Kit, claimed: Claimed) -> None:
    await kit.cancel(claimed.snapshot.id)


async def succeed(kit: Kit, claimed: Claimed) -> None:
    await kit.settle(claimed, DONE, result='{"ok": true}')


async def fail(kit: Kit, claimed: Claimed) -> None:
    await kit.settle(claimed, FAIL, error="no", error_code="exception")


async def retry(kit: Kit, claimed: Claimed) -> None:
    await kit.settle(claimed, RET, error="no", error_code="exception", retried=1)


async def report(kit: Kit, claimed: Claimed) -> None:
    await kit.progress(claimed, 50, step=1)


EVENTS = (claim, claim_by_id, cancel, succeed, fail, retry, report)

# Where each event leads to from a state; the others change nothing at all.
EDGES: dict[Status, dict[Any, Status]] = {
    P: {claim: RUN, claim_by_id: RUN, cancel: CANC},
    RET: {claim: RUN, claim_by_id: RUN, cancel: CANC},
    RUN: {succeed: DONE, fail: FAIL, retry: RET, cancel: RUN, report: RUN},
    DONE: {}, FAIL: {}, CANC: {},
}  # fmt: skip


@pytest.mark.parametrize("before", EDGES)
async def test_every_edge(kit: Kit, before: Status) -> None:
    """Each event in each state: it leads where the table says, or changes nothing at all."""
    for event in EVENTS:
        after = EDGES[before].get(event)
        claimed = await kit.in_state(before, queue=event.__name__)
        was = await kit.get(claimed.snapshot.id)
        await event(kit, claimed)
        now = await kit.get(claimed.snapshot.id)
        if after is None:
            assert now == was, event
            continue
        assert now.status == after, event
        assert now.seq == was.seq + (0 if before == after else 1), event
        assert (now.completed_at is not None) == (after in FINAL), event


async def test_a_foreign_token_changes_nothing(kit: Kit) -> None:
    """A write by an attempt that does not hold the row is refused, whatever it wants."""
    claimed = await kit.running()
    was = await kit.get(claimed.snapshot.id)
    for event in (succeed, fail, retry, report):
        await event(kit, Claimed(claimed.snapshot, "{}", new_id()))
        assert await kit.get(claimed.snapshot.id) == was, event


async def test_a_foreign_outcome_is_answered_with_none(kit: Kit) -> None:
    """A former holder's writes are refused for good: the row has another's token."""
    claimed = await kit.running()
    stranger = Claimed(claimed.snapshot, "{}", new_id())
    assert await kit.settle(stranger, DONE) is None


async def test_an_attempt_that_was_replaced_is_fenced_off(kit: Kit) -> None:
    """The token of the attempt before writes nothing into the attempt after."""
    first = await kit.running()
    await kit.settle(first, RET)
    due = await kit.claim()
    (second,) = due.claimed
    assert await kit.settle(first, FAIL) is None
    await kit.progress(first, 99, step=9)
    assert await kit.get(first.snapshot.id) == second.snapshot
    settled = await kit.settle(second, DONE)
    assert settled is not None
    assert settled.status is DONE


async def test_a_claim_makes_a_new_attempt(kit: Kit) -> None:
    """attempts + 1, seq + 1, a token of its own, progress and error of the last attempt gone."""
    first = await kit.running()
    await kit.settle(first, RET, error="no", error_code="exception", progress_message="half")
    was = await kit.get(first.snapshot.id)
    due = await kit.claim()
    (second,) = due.claimed
    now = second.snapshot
    assert second.token != first.token
    assert now == await kit.get(first.snapshot.id)
    assert (now.attempts, now.seq, now.step) == (was.attempts + 1, was.seq + 1, 0)
    assert (now.progress, now.progress_message, now.error, now.error_code) == (0, None, None, None)
    assert now.started_at == now.updated_at
    assert second.arguments in ('{"n": 1}', '{"n":1}')


async def test_retrying_counts_what_it_costs(kit: Kit) -> None:
    """A failed attempt costs a retry, one that was handed back none."""
    for retried in (1, 0):
        claimed = await kit.running()
        await kit.settle(claimed, RET, retried=retried)
        assert (await kit.get(claimed.snapshot.id)).retry_count == retried


@pytest.mark.parametrize("intended", [DONE, FAIL, RET])
async def test_a_cancel_turns_every_end_but_success(kit: Kit, intended: Status) -> None:
    """Asked to end: success stays success, all else is cancelled and costs no retry."""
    claimed = await kit.running()
    assert (await kit.cancel(claimed.snapshot.id)).snapshot.cancel_requested
    settled = await kit.settle(claimed, intended, error="no", error_code="exception", retried=1)
    assert settled is not None
    now = await kit.get(claimed.snapshot.id)
    assert now.status == settled.status == (DONE if intended is DONE else CANC)
    assert now.retry_count == 0
    if intended is not DONE:
        assert (now.error, now.error_code, now.run_after) == (None, "cancelled", None)
        assert now.progress == 7
        assert now.completed_at is not None


@pytest.mark.parametrize("status", [P, RET])
async def test_cancel_of_a_waiting_row_is_its_end(kit: Kit, status: Status) -> None:
    """It is final at once, says why, and expires like any other."""
    claimed = await kit.in_state(status, delay=None)
    cancelled = await kit.cancel(claimed.snapshot.id, ttl=60)
    now = await kit.get(claimed.snapshot.id)
    assert cancelled.changed
    assert cancelled.snapshot == now
    assert (now.status, now.error_code, now.error) == (CANC, "cancelled", None)
    assert now.cancel_requested
    assert now.expires_at is not None
    assert now.completed_at is not None
    assert abs(now.expires_at - now.completed_at - MINUTE) < timedelta(milliseconds=2)
    assert (await kit.claim()).claimed == []


async def test_cancel_of_a_delayed_row_takes_it_out_of_line(kit: Kit) -> None:
    """Nothing is left that could come due."""
    execution_id = await kit.waiting(delay=3600.0)
    await kit.cancel(execution_id)
    assert (await kit.get(execution_id)).run_after is None
    assert (await kit.claim()).next_due is None


async def test_cancel_of_a_running_row_only_flags_it(kit: Kit) -> None:
    """The holder's row stays as it is but for the flag; seq does not grow."""
    claimed = await kit.running()
    cancelled = await kit.cancel(claimed.snapshot.id, ttl=60)
    assert cancelled.changed
    assert differing(claimed.snapshot, cancelled.snapshot) <= {"cancel_requested", "updated_at"}
    assert cancelled.snapshot == await kit.get(claimed.snapshot.id)
    assert cancelled.snapshot.cancel_requested


async def test_cancel_of_a_final_row_says_that_it_did_nothing(kit: Kit) -> None:
    """The row comes back as it stands, unchanged."""
    for status in (DONE, FAIL, CANC):
        claimed = await kit.in_state(status)
        was = await kit.get(claimed.snapshot.id)
        cancelled = await kit.cancel(claimed.snapshot.id)
        assert not cancelled.changed
        assert cancelled.snapshot == was


async def test_cancel_of_a_row_that_is_not_there(kit: Kit) -> None:
    """None, as for one that has expired."""
    assert await kit.here(kit.ledger.cancel, new_id(), None) is None
    claimed = await kit.running()
    await kit.settle(claimed, DONE, ttl=-1.0)
    assert await kit.here(kit.ledger.cancel, claimed.snapshot.id, None) is None


async def test_cancels_are_found_by_their_holder(kit: Kit) -> None:
    """Where others may ask for a cancel, the holder finds its own running rows."""
    if kit.kind == "memory":
        assert kit.ledger.recoveries() is None
        return
    mine, other = claimed_at_birth(), claimed_at_birth()
    for new in (mine, other):
        await kit.create(new)
        await kit.cancel(new.id)
    assert mine.runtime_id is not None
    assert list(await kit.recoveries.cancels_for(mine.runtime_id)) == [mine.id]


# --- what the runtime says is what the row says ---------------------------------------------------


async def test_a_new_row_reads_as_the_runtime_renders_it(kit: Kit) -> None:
    """`as_created` is the snapshot of a waiting row, field for field."""
    new = new_execution(
        owner_id="7", tenant_id="acme", parent_id=new_id(), priority=-3, queue="low", delay=60.0
    )
    created = await kit.create(new)
    assert created.run_after is not None
    assert abs(created.run_after - created.at - MINUTE) < timedelta(milliseconds=2)
    assert await kit.get(new.id) == as_created(new, created)


async def test_a_row_born_running_is_one_step_further(kit: Kit) -> None:
    """The insert that is a claim: what was published as pending, then running with seq 2."""
    new = claimed_at_birth(owner_id="7")
    created = await kit.create(new)
    now = await kit.get(new.id)
    born = as_created(new, created)
    assert differing(born, now) == {"status", "seq", "attempts", "started_at"}
    assert (now.status, now.seq, now.attempts) == (RUN, 2, 1)
    assert now.started_at == created.at == now.created_at
    assert (await kit.claim()).claimed == []
    settled = await kit.settle(Claimed(now, new.arguments, new.token or new_id()), DONE)
    assert settled is not None


OUTCOMES: list[tuple[Status, dict[str, Any]]] = [
    (DONE, {"result": '{"t": "\\u00e9\\ud83d\\ude00", "n": [1, 2.5, null]}', "ttl": 86400.0}),
    (DONE, {"result": "null", "ttl": None}),
    (FAIL, {"error": "no", "error_code": "timeout", "traceback": "…", "ttl": 60.0}),
    (RET, {"error": "no", "error_code": "exception", "retried": 1, "delay": 60.0, "ttl": 60.0}),
    (RET, {"delay": 0.0}),
    (RET, {}),
]  # fmt: skip


@pytest.mark.parametrize("cancelled", [False, True])
async def test_an_outcome_reads_as_the_runtime_renders_it(kit: Kit, cancelled: bool) -> None:
    """`as_settled` is the snapshot of the row, field for field."""
    for status, fields in OUTCOMES:
        claimed = await kit.running()
        before: TaskSnapshot = claimed.snapshot
        if cancelled:
            before = (await kit.cancel(before.id)).snapshot
        outcome = outcome_of(claimed, status, progress=42, progress_message="half", **fields)
        settled = await kit.send(outcome)
        assert settled is not None
        now = await kit.get(before.id)
        assert now == as_settled(before, outcome, settled)
        assert now.progress == (100 if now.status == DONE else 42)
        if now.status in WAITING and fields.get("delay"):
            assert now.run_after is not None
            assert abs(now.run_after - now.updated_at - MINUTE) < timedelta(milliseconds=2)


async def test_a_claim_returns_what_the_body_runs_with(kit: Kit) -> None:
    """The language and the trace context of the start, whichever way the row is claimed."""
    given = {"language": "de", "traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": "k=v"}
    by_queue = new_execution(queue="by-queue", **given)
    await kit.create(by_queue)
    (claimed,) = (await kit.claim("by-queue")).claimed
    inline = await kit.running(queue="inline", **given)
    for it in (claimed, inline):
        assert {name: getattr(it, name) for name in given} == given
    bare = await kit.running()
    assert (bare.language, bare.traceparent, bare.tracestate) == (None, None, None)
