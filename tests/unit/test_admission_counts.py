"""Counts of waiting executions while a count of the ledger is under way."""

from __future__ import annotations

from typing import Any

import pytest

from rail_async_tasks.conf import TaskSettings
from rail_async_tasks.errors import QueueFull
from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.memory.ledger import MemoryLedger
from rail_async_tasks.ledger.records import NewExecution
from rail_async_tasks.runtime import limits
from rail_async_tasks.runtime.admission import Admission, Entry
from rail_async_tasks.runtime.anonymous_starts import AddressLimit
from rail_async_tasks.runtime.limits import Limits

LIMITS = Limits("1", waiting=(("1", 3),))


class CountingLedger(MemoryLedger):
    """A ledger in which executions come in after its count has looked, and before it answers."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: Any = None

    def count_waiting(self, owner_id: str | None, at_most: int) -> int:
        counted = super().count_waiting(owner_id, at_most)
        if self.meanwhile is not None:
            self.meanwhile()
        return counted


def test_what_comes_in_during_a_count_is_not_forgotten() -> None:
    """A count that is older than a creation does not take the creation away again."""
    ledger = CountingLedger()
    admission = Admission(ledger)

    def three_come_in() -> None:
        for _ in range(3):
            admission.left_waiting("1")

    ledger.meanwhile = three_come_in
    with pytest.raises(QueueFull), Entry(admission, [new_id()], LIMITS) as entry:
        entry.check()


def test_until_the_first_count_nothing_is_taken_for_granted() -> None:
    """Callers that come while the first count is under way count for themselves."""
    ledger = CountingLedger()
    admission = Admission(ledger)
    for _ in range(3):
        ledger.create_here(waiting())
    inner: list[type[BaseException] | None] = []

    def another_comes() -> None:
        ledger.meanwhile = None
        try:
            with Entry(admission, [new_id()], LIMITS) as entry:
                entry.check()
            inner.append(None)
        except QueueFull:
            inner.append(QueueFull)

    ledger.meanwhile = another_comes
    with pytest.raises(QueueFull), Entry(admission, [new_id()], LIMITS) as entry:
        entry.check()
    assert inner == [QueueFull]


def test_the_limits_of_a_start() -> None:
    """By who asks, at the defaults: the project's code and users have none of an address."""

    def found(**asked: Any) -> Any:
        given = {"owner_id": None, "anonymous": False, "inline": False, **asked}
        return limits.limits_for(TaskSettings(), given.pop("owner_id"), **given)

    assert found() == limits.Limits(None, ((None, 10_000),))
    assert found(owner_id="1") == limits.Limits("1", ((None, 10_000),))
    anonymous = found(anonymous=True, address="a")
    assert anonymous == limits.Limits(None, ((None, 10_000),), None, 2_000, AddressLimit("a", 1000))
    assert found(anonymous=True).address is None
    assert found(anonymous=True, address="a", inline=True) is None


def waiting() -> NewExecution:
    return NewExecution(
        id=new_id(), name="t", queue="default", priority=0, arguments="{}", max_retries=0,
        owner_id="1",
    )  # fmt: skip
