"""The validity of a lease, by the clock."""

from __future__ import annotations

from rail_async_tasks.runtime.upkeep.lease_term import MARGIN, LeaseTerm


def test_a_lease_is_given_up_before_others_may_take_it() -> None:
    """By a margin, counted from when the last good renewal was sent."""
    term = LeaseTerm(10)
    assert not term.is_over(1000)  # none was held
    term.renewed(100)
    assert not term.is_over(100 + 10 * (1 - MARGIN))
    assert term.is_over(100 + 10 * (1 - MARGIN) + 0.1)
    term.renewed(105)
    assert not term.is_over(112)


def test_others_are_judged_after_one_whole_lease_without_a_gap() -> None:
    """Not at the start, and not soon after an outage in which no process could renew."""
    term = LeaseTerm(10)
    assert not term.may_judge(100)
    for at in range(100, 111, 2):
        term.renewed(at)
        assert not term.may_judge(at)
    term.renewed(112)
    assert term.may_judge(112)
    term.renewed(130)  # after an outage
    assert not term.may_judge(130)
    for at in range(132, 141, 2):
        term.renewed(at)
        assert not term.may_judge(at)
    term.renewed(142)
    assert term.may_judge(142)


def test_a_runtime_that_cannot_renew_marks_none_dead() -> None:
    """Its own lease may be over as far as others know."""
    term = LeaseTerm(10)
    for at in range(100, 121, 2):
        term.renewed(at)
    assert term.may_judge(121)
    assert not term.may_judge(129)


def test_a_lost_lease_begins_anew() -> None:
    """With the next renewal, and without the right to judge."""
    term = LeaseTerm(10)
    for at in range(100, 121, 2):
        term.renewed(at)
    term.lost()
    assert not term.is_over(200)
    assert not term.may_judge(121)
    term.renewed(122)
    assert not term.may_judge(123)


def test_no_runtime_is_marked_dead_for_a_lease_after_the_clock_was_set() -> None:
    """By that clock all leases have lapsed, of those that renew theirs in time too."""
    term = LeaseTerm(10)
    for at in range(100, 121, 2):
        term.renewed(at)
    assert term.left(121) == 9
    term.clock_was_set(121)
    for at in range(122, 131, 2):
        term.renewed(at)
        assert not term.may_judge(at)
    term.renewed(132)
    assert term.may_judge(132)
