"""How much may run at once, and what the next claim asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from rail_async_tasks.conf import RateLimit
from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.records import QueueClaim
from rail_async_tasks.queue_limits import QueueLimits
from rail_async_tasks.runtime.claims.plan import Plan
from rail_async_tasks.runtime.claims.slots import Slots

DEFAULT = QueueLimits("default")


def slots(*queues: QueueLimits, **fields: Any) -> Slots:
    values: dict[str, Any] = {"coroutines": 10, "threads": 2, "total": None} | fields
    return Slots(queues=queues or (DEFAULT,), **values)


def plan_of(it: Slots) -> Plan:
    return it.plan(new_id(), ("c",), ("t",))


def run(plan: Plan, rows: Mapping[tuple[str, str], int] | None = None) -> list[tuple[Any, ...]]:
    """The lanes as (queue, names, limit), while a ledger with these rows serves them."""
    left = dict(rows or {})
    lanes = []
    for lane in plan.claims():
        lanes.append((lane.queue, lane.names[0], lane.limit))
        key = (lane.queue, lane.names[0])
        count = min(lane.limit, left.get(key, 0))
        left[key] = left.get(key, 0) - count
        plan.took(lane, count)
    return lanes


def looked(it: Slots, rows: Mapping[tuple[str, str], int] | None = None) -> list[tuple[Any, ...]]:
    """One whole claim."""
    plan = plan_of(it)
    lanes = run(plan, rows)
    it.learn(plan)
    return lanes


# --- room -----------------------------------------------------------------------------------------


def test_coroutines_and_threads_have_limits_of_their_own() -> None:
    """One kind does not use up the other's."""
    it = slots(coroutines=2, threads=1)
    it.take("default", True)
    assert (it.room("default", False), it.room("default", True)) == (2, 0)
    it.take("default", False)
    it.take("default", False)
    assert it.room("default", False) == 0
    assert it.running == 3
    it.release("default", True)
    assert (it.room("default", False), it.room("default", True)) == (0, 1)
    assert it.running == 2


def test_a_total_limits_both_together() -> None:
    """As under the `thread` backend."""
    it = slots(coroutines=4, threads=4, total=4)
    for in_thread in (True, False, True):
        it.take("default", in_thread)
    assert (it.room("default", False), it.room("default", True)) == (1, 1)
    it.take("default", False)
    assert (it.room("default", False), it.room("default", True)) == (0, 0)


def test_a_queue_may_have_a_limit() -> None:
    """Both kinds count; other queues do not."""
    it = slots(DEFAULT, QueueLimits("few", concurrency=2))
    it.take("few", True)
    assert it.room("few", False) == 1
    it.take("few", False)
    assert (it.room("few", False), it.room("few", True)) == (0, 0)
    assert it.room("default", False) == 9
    it.release("few", False)
    assert it.room("few", True) == 1


def test_a_queue_with_a_rate_starts_nothing_without_a_claim() -> None:
    """Which takes a token; also where nothing waits, and slots are free."""
    it = slots(DEFAULT, QueueLimits("mail", rate=RateLimit(10, 1.0)))
    looked(it)
    assert it.may_start_at_once("default", False)
    assert it.room("mail", False) > 0
    assert not it.may_start_at_once("mail", False)


def test_a_claim_asks_no_more_of_a_queue_without_a_token() -> None:
    """Neither for its threads; what is left of it is looked for after the rest, by turns."""
    it = slots(QueueLimits("mail", rate=RateLimit(10, 1.0)))
    plan = it.plan(new_id(), ["a"], ["b"])
    parts = plan.claims()
    first = next(parts)
    assert first.rate == RateLimit(10, 1.0)
    plan.took(first, 1)
    plan.rests(first, 0.1)
    assert list(parts) == []
    it.learn(plan)
    it.rest("mail")
    assert not it.worth_a_claim
    it.refill("mail")
    after = it.plan(new_id(), ["a"], ["b"], running=lambda queue: {"x": 1})
    assert [(part.queue, part.running) for part in after.claims()] == [
        ("mail", {"x": 1}), ("mail", None),
    ]  # fmt: skip


def test_a_queue_that_rests_is_full() -> None:
    """And what waits in it holds up no other queue."""
    it = slots(DEFAULT, QueueLimits("mail", rate=RateLimit(10, 1.0)))
    looked(it)
    it.expect("mail", False)
    it.rest("mail")
    assert it.room("mail", False) == 0
    assert not it.worth_a_claim
    assert it.may_start_at_once("default", False)
    it.refill("mail")
    assert it.worth_a_claim


# --- when a claim is worth it ---------------------------------------------------------------------


def test_at_the_start_no_claim_has_looked() -> None:
    """So it is worth a claim, and nothing may start past what may be waiting."""
    it = slots()
    assert it.worth_a_claim
    assert not it.may_start_at_once("default", False)
    looked(it)
    assert not it.worth_a_claim
    assert it.may_start_at_once("default", False)


def test_an_expected_row_is_worth_a_claim_where_there_is_room() -> None:
    """Not while everything is full."""
    it = slots(coroutines=1, threads=1)
    looked(it)
    it.take("default", False)
    it.take("default", True)
    it.expect("default", False)
    assert not it.worth_a_claim
    it.release("default", False)
    assert it.worth_a_claim


def test_free_threads_are_no_room_for_a_coroutine() -> None:
    """Tasks that wait for a slot of their own kind are not asked for again and again meanwhile."""
    it = slots(coroutines=1, threads=2)
    looked(it)
    it.take("default", False)
    it.expect("default", False)
    assert not it.worth_a_claim
    it.expect_all()
    looked(it, {("default", "c"): 1})
    assert not it.worth_a_claim
    it.release("default", False)
    assert it.worth_a_claim


def test_a_new_execution_takes_no_slot_of_a_waiting_one() -> None:
    """Every row that is known to wait must find a slot besides."""
    it = slots(coroutines=3)
    looked(it)
    it.expect("default", False)
    it.expect("default", False)
    assert it.may_start_at_once("default", False)
    it.expect("default", False)
    assert not it.may_start_at_once("default", False)


def test_a_full_queue_is_no_line_for_the_others() -> None:
    """Tasks that wait for their own queue's limit do not hold up other queues."""
    it = slots(DEFAULT, QueueLimits("few", concurrency=1))
    looked(it)
    it.take("few", False)
    it.expect("few", False)
    plan = plan_of(it)
    run(plan)
    it.learn(plan)
    assert it.may_start_at_once("default", False)
    assert not it.may_start_at_once("few", False)


def test_slots_of_a_claim_in_flight_are_spoken_for() -> None:
    """Until it is back."""
    it = slots(coroutines=2)
    looked(it)
    it.expect("default", False)
    it.expect("default", False)
    plan = plan_of(it)
    assert not it.may_start_at_once("default", False)
    run(plan)
    it.learn(plan)
    assert it.may_start_at_once("default", False)


def test_a_claim_that_failed_has_learnt_nothing() -> None:
    """The rows that it set out to find may still be there."""
    it = slots()
    looked(it)
    it.expect("default", False)
    plan_of(it)
    it.learn(None)
    assert it.worth_a_claim
    assert not it.may_start_at_once("default", False)
    assert looked(it) == [("default", "c", 10)]


def test_a_row_that_comes_during_a_claim_is_not_forgotten() -> None:
    """The claim in flight may have looked before it came."""
    it = slots()
    looked(it)
    plan = plan_of(it)
    it.expect("default", False)
    run(plan)
    it.learn(plan)
    assert it.worth_a_claim


def test_rows_that_were_left_are_remembered() -> None:
    """A queue from which a claim took all that it asked for may hold more."""
    it = slots(coroutines=2)
    looked(it, {("default", "c"): 5})
    assert it.worth_a_claim
    assert not it.may_start_at_once("default", False)
    looked(it, {("default", "c"): 1})
    assert it.worth_a_claim  # owners took turns: one may have more than its share
    looked(it, {})
    assert not it.worth_a_claim


def test_expect_all_looks_everywhere_again() -> None:
    """Another process may have left rows."""
    it = slots(DEFAULT, QueueLimits("low"))
    looked(it)
    it.expect_all()
    assert it.worth_a_claim
    assert {lane[0] for lane in looked(it)} == {"default", "low"}


def test_an_unknown_queue_becomes_known() -> None:
    """Its rows are there, so it is served, without a limit of its own."""
    it = slots()
    looked(it)
    it.know("other")
    assert it.worth_a_claim
    assert ("other", "c", 10) in looked(it)
    it.take("third", False)
    it.release("third", False)
    assert it.room("third", False) == 10


# --- the plan -------------------------------------------------------------------------------------


def test_lanes_go_by_the_queues_priority() -> None:
    """Higher first; those of one priority take turns."""
    it = slots(QueueLimits("low", -1), QueueLimits("high", 5), QueueLimits("a"), QueueLimits("b"))
    orders = []
    for _ in range(8):
        it.expect_all()
        order = [queue for queue, name, _ in looked(it) if name == "c"]
        assert (order[0], order[-1]) == ("high", "low")
        orders.append(order[1])
    assert set(orders) == {"a", "b"}


def test_a_plan_asks_for_no_more_than_fits() -> None:
    """Each lane is sized by what the lanes before it took."""
    it = slots(QueueLimits("high", 5, concurrency=3), DEFAULT, coroutines=4, threads=2, total=5)
    lanes = looked(it, {("high", "c"): 2, ("high", "t"): 9, ("default", "c"): 9})
    assert lanes == [("high", "c", 3), ("high", "t", 1), ("default", "c", 2)]


def test_a_plan_asks_for_what_is_expected_only() -> None:
    """A queue that was seen empty is asked for as many rows as came since."""
    it = slots(DEFAULT, QueueLimits("low", -1))
    looked(it)
    it.expect("low", False)
    it.expect("low", False)
    assert looked(it, {("low", "c"): 2}) == [("low", "c", 2)]


def test_a_kind_without_tasks_has_no_lane() -> None:
    """Nothing is claimed that this process does not know."""
    it = slots()
    plan = it.plan(new_id(), (), ("t",))
    assert [lane.names for lane in _served(plan)] == [("t",)]


def _served(plan: Plan) -> list[QueueClaim]:
    lanes = []
    for lane in plan.claims():
        lanes.append(lane)
        plan.took(lane, 0)
    return lanes


def test_a_full_process_plans_nothing() -> None:
    """And remembers that it has not looked."""
    it = slots(coroutines=1, threads=1)
    it.take("default", False)
    it.take("default", True)
    assert looked(it) == []
    it.release("default", False)
    assert it.worth_a_claim


@pytest.mark.parametrize("in_thread", [False, True])
def test_one_kind_being_full_does_not_hide_its_rows(in_thread: bool) -> None:
    """The queue is not taken as emptied while one kind could not be looked for."""
    it = slots(coroutines=1, threads=1)
    it.take("default", in_thread)
    looked(it)
    it.release("default", in_thread)
    assert it.worth_a_claim
