"""Every ledger: creating, claiming in order, unique keys, progress."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.records import Claimed, QueueClaim
from rail_async_tasks.states import Status
from tests.support.ledgers import Kit, Lanes, answer, claimed_at_birth, new_execution

HOUR = timedelta(hours=1)


def ids(claimed: list[Claimed]) -> list[UUID]:
    return [it.snapshot.id for it in claimed]


# --- create ---------------------------------------------------------------------------------------


async def test_create_is_idempotent_by_id(kit: Kit) -> None:
    """Sent twice it is one row, and both answers are the same."""
    for new in (new_execution(delay=60.0), claimed_at_birth()):
        first = await kit.create(new)
        was = await kit.get(new.id)
        assert await kit.create(new) == first
        assert await kit.get(new.id) == was


async def test_create_with_a_unique_key_is_idempotent_by_id(kit: Kit) -> None:
    """A row does not meet itself as the holder of its own key."""
    new = new_execution(unique_key="k")
    first = await kit.create(new)
    again = await kit.create(new)
    assert first == again
    assert again.existing is None


async def test_create_again_does_not_bring_back_a_row_that_went_on(kit: Kit) -> None:
    """The second sending leaves a row that was claimed and settled meanwhile alone."""
    new = new_execution()
    await kit.create(new)
    (claimed,) = (await kit.claim()).claimed
    await kit.settle(claimed, Status.COMPLETED)
    was = await kit.get(new.id)
    await kit.create(new)
    assert await kit.get(new.id) == was


async def test_many_are_created_at_once(kit: Kit) -> None:
    """Each of a crowd is answered for itself."""
    crowd = [new_execution(priority=n) for n in range(300)]
    created = await asyncio.gather(*map(kit.create, crowd))
    assert all(it.existing is None for it in created)
    found = await kit.ledger.reread([new.id for new in crowd])
    assert {it.id: it.priority for it in found} == {new.id: new.priority for new in crowd}


async def test_arguments_come_back_as_they_went(kit: Kit) -> None:
    """To the claim and to a reader alike."""
    text = '{"text":"é😀 \\"quoted\\" %s","n":[1,2.5,null,true],"big":9007199254740993}'
    execution_id = await kit.waiting(arguments=text)
    (claimed,) = (await kit.claim()).claimed
    stored = await kit.here(kit.ledger.arguments, execution_id)
    for arguments in (claimed.arguments, stored):
        assert arguments is not None
        assert _decoded(arguments) == _decoded(text)
    assert await kit.here(kit.ledger.arguments, new_id()) is None


def _decoded(text: str) -> object:
    import json

    return json.loads(text)


# --- unique keys ----------------------------------------------------------------------------------


async def test_a_unique_key_leads_to_the_unfinished_row(kit: Kit) -> None:
    """A second execution is not created while the first is unfinished, in any of its states."""
    first = await kit.waiting(unique_key="k")

    async def conflict() -> None:
        new = new_execution(unique_key="k")
        created = await kit.create(new)
        assert created.existing == await kit.get(first)
        assert await kit.here(kit.ledger.get, new.id) is None

    await conflict()
    (claimed,) = (await kit.claim()).claimed
    await conflict()
    await kit.settle(claimed, Status.RETRYING)
    await conflict()
    other = new_execution(unique_key="another")
    assert (await kit.create(other)).existing is None


async def test_every_final_edge_frees_the_unique_key(kit: Kit) -> None:
    """Completed, failed, cancelled while running or waiting: the next one is created."""

    async def taken(claimed: bool) -> Claimed:
        fields = {"unique_key": "k", "queue": str(new_id())}
        new = claimed_at_birth(**fields) if claimed else new_execution(**fields)
        assert (await kit.create(new)).existing is None
        return Claimed(await kit.get(new.id), new.arguments, new.token or new_id())

    await kit.settle(await taken(True), Status.COMPLETED)
    await kit.settle(await taken(True), Status.FAILED)
    running = await taken(True)
    await kit.cancel(running.snapshot.id)
    await kit.settle(running, Status.FAILED)
    await kit.cancel((await taken(False)).snapshot.id)
    await taken(False)


async def test_a_crowd_with_keys_is_created_in_few_batches(kit: Kit) -> None:
    """Free keys, taken ones, keys that the crowd itself has twice: each start has its answer."""
    taken = await kit.waiting(unique_key="taken")
    writer = getattr(kit.ledger, "intake", None)
    before = 0 if writer is None else writer.batches
    crowd = [new_execution(unique_key=f"k{n % 60}") for n in range(100)]
    late = new_execution(unique_key="taken")
    *created, refused = await asyncio.gather(*map(kit.create, [*crowd, late]))
    assert all(it.existing is None for it in created[:60])
    for n, it in enumerate(created[60:]):
        assert it.existing is not None
        assert it.existing.id == crowd[n].id
    assert refused.existing is not None
    assert refused.existing.id == taken
    assert len(await kit.ledger.reread([new.id for new in [*crowd, late]])) == 60
    assert writer is None or writer.batches - before < 10


async def test_a_crowd_with_one_key_is_one_row(kit: Kit) -> None:
    """Of many at once one is created, and all others are led to it."""
    crowd = [new_execution(unique_key="k") for _ in range(20)]
    created = await asyncio.gather(*map(kit.create, crowd))
    assert sum(it.existing is None for it in created) == 1
    assert len({it.existing.id for it in created if it.existing is not None}) == 1


# --- claim ----------------------------------------------------------------------------------------


async def test_claims_go_by_priority_then_by_id(kit: Kit) -> None:
    """Higher first; of one priority the older."""
    rows = [(0, new_id()), (5, new_id()), (-5, new_id()), (5, new_id()), (0, new_id())]
    for priority, execution_id in reversed(rows):
        await kit.create(new_execution(id=execution_id, priority=priority))
    expected = [it for _, it in sorted(rows, key=lambda row: (-row[0], row[1]))]
    first = await kit.claim(limit=2)
    rest = await kit.claim()
    assert ids(first.claimed) == expected[:2]
    assert ids(rest.claimed) == expected[2:]
    # A claim's rows share its token; no two claims do.
    assert len({it.token for it in first.claimed + rest.claimed}) == 2


async def test_a_lane_takes_what_it_asks_for_and_no_more(kit: Kit) -> None:
    """Each lane by its queue, names and limit; the plan hears how many each gave."""
    rows = [
        await kit.waiting(queue=queue, name=name)
        for queue in ("a", "b")
        for name in ("x", "y", "x", "unknown")
    ]
    plan = Lanes(
        [
            QueueClaim("a", ("x",), 1),
            QueueClaim("b", ("x", "y"), 10),
            QueueClaim("a", ("y", "z"), 10),
            QueueClaim("c", ("x",), 10),
        ]
    )
    due = await kit.ledger.claim(plan)
    assert plan.counts == [1, 3, 1, 0]
    assert ids(due.claimed) == [rows[0], rows[4], rows[5], rows[6], rows[1]]
    left = [await kit.get(row) for row in (rows[2], rows[3], rows[7])]
    assert {it.status for it in left} == {Status.PENDING}
    assert ids((await kit.ledger.claim(Lanes([QueueClaim("a", ("x", "unknown"), 9)]))).claimed) == [
        rows[2],
        rows[3],
    ]


async def test_two_claims_never_share_a_row(kit: Kit) -> None:
    """Claims that overlap divide the rows between them."""
    rows = [await kit.waiting() for _ in range(20)]
    dues = await asyncio.gather(*(kit.claim(limit=5) for _ in range(4)))
    claimed = [execution_id for due in dues for execution_id in ids(due.claimed)]
    assert sorted(claimed) == sorted(rows)


async def test_a_delayed_row_is_claimed_when_it_is_due(kit: Kit) -> None:
    """Until then it is not, and the claim returns how long that takes."""
    later = await kit.waiting(delay=3600.0)
    due = await kit.claim()
    assert due.claimed == []
    assert due.next_due is not None
    assert 3000 < due.next_due <= 3600
    soon = await kit.waiting(delay=0.02)
    due = await kit.claim()
    while not due.claimed:  # waits for the clock that the ledger goes by
        assert due.next_due is not None
        await asyncio.sleep(due.next_due)
        due = await kit.claim()
    assert ids(due.claimed) == [soon]
    assert due.claimed[0].snapshot.run_after is None
    assert (await kit.get(later)).run_after is not None


async def test_run_after_in_the_past_is_due(kit: Kit) -> None:
    """One in the future waits; both read back as given."""
    now = datetime.now(UTC)
    past, future = now - HOUR, now + HOUR
    for at in (past, future):
        new = new_execution(run_after=at)
        assert (await kit.create(new)).run_after == at
        assert (await kit.get(new.id)).run_after == at
    (claimed,) = (await kit.claim()).claimed
    assert claimed.snapshot.run_after is None


async def test_a_retry_waits_for_its_delay(kit: Kit) -> None:
    """With a delay it comes due later, without one at once."""
    claimed = await kit.running()
    settled = await kit.settle(claimed, Status.RETRYING, delay=3600.0)
    assert settled is not None
    assert settled.run_after is not None
    assert (await kit.claim()).claimed == []
    other = await kit.running()
    await kit.settle(other, Status.RETRYING, delay=0.0)
    assert ids((await kit.claim()).claimed) == [other.snapshot.id]


async def test_claim_by_id_takes_a_row_before_its_time(kit: Kit) -> None:
    """An inline attempt does not wait for its delay."""
    execution_id = await kit.waiting(delay=3600.0)
    runtime_id, token = new_id(), new_id()
    claimed = await kit.here(kit.ledger.claim_here, execution_id, runtime_id, token)
    assert claimed is not None
    assert claimed.token == token
    assert claimed.snapshot == await kit.get(execution_id)
    assert claimed.snapshot.run_after is None
    assert await kit.here(kit.ledger.claim_here, new_id(), runtime_id, token) is None


async def test_queues_with_waiting_rows_are_named(kit: Kit) -> None:
    """Those, and none where nothing waits."""
    await kit.waiting(queue="a")
    await kit.waiting(queue="a")
    await kit.create(claimed_at_birth(queue="b"))
    assert sorted(await kit.ledger.queues()) == ["a"]


# --- progress -------------------------------------------------------------------------------------


async def test_the_latest_progress_is_kept(kit: Kit) -> None:
    """Percentage, message and step; seq stays."""
    claimed = await kit.running()
    for step in range(1, 6):
        await kit.progress(claimed, 10 * step, step, progress_message=f"step {step}")
    now = await kit.get(claimed.snapshot.id)
    assert (now.progress, now.progress_message) == (50, "step 5")
    assert now.version == (claimed.snapshot.seq, 5)


async def test_an_outcome_supersedes_progress(kit: Kit) -> None:
    """Handed over right before or right after it, progress never overwrites the outcome."""
    claimed = await kit.running()
    early = kit.progress(claimed, 60, 1, progress_message="late")
    outcome = answer(
        lambda done: kit.ledger.settle(
            _outcome(claimed, progress=80, progress_message="last words"), done
        )
    )
    late = kit.progress(claimed, 70, 2, progress_message="later")
    await asyncio.gather(early, outcome, late)
    now = await kit.get(claimed.snapshot.id)
    assert (now.progress, now.progress_message) == (80, "last words")
    assert now.version == (claimed.snapshot.seq + 1, 0)


def _outcome(claimed: Claimed, **fields: object) -> object:
    from tests.support.ledgers import outcome_of

    return outcome_of(claimed, Status.FAILED, **fields)


@pytest.mark.parametrize("ttl", [None, 60.0])
async def test_a_final_row_expires_by_its_ttl(kit: Kit, ttl: float | None) -> None:
    """`expires_at` is that much after the end; never without one."""
    claimed = await kit.running()
    settled = await kit.settle(claimed, Status.COMPLETED, ttl=ttl)
    assert settled is not None
    if ttl is None:
        assert settled.expires_at is None
    else:
        assert settled.expires_at is not None
        lasts = settled.expires_at - settled.at
        assert abs(lasts - timedelta(seconds=ttl)) < timedelta(milliseconds=2)
