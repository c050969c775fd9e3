"""Counts of anonymous starts by address, while tasks run, end and are refused."""

from __future__ import annotations

from uuid import UUID

import pytest

from rail_async_tasks.errors import QueueFull
from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.memory.ledger import MemoryLedger
from rail_async_tasks.runtime import anonymous_starts
from rail_async_tasks.runtime.anonymous_starts import AddressLimit, AnonymousStarts

LIMIT = AddressLimit("a", 3)


class FixedLedger(MemoryLedger):
    """A ledger whose executions have the statuses that a test gives them."""

    def __init__(self) -> None:
        super().__init__()
        self.statuses: dict[UUID, str] = {}
        self.asked = 0

    def unfinished(self, execution_ids: object) -> dict[UUID, str]:
        self.asked += 1
        return dict(self.statuses)


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> FixedLedger:
    monkeypatch.setattr(anonymous_starts, "COUNT_INTERVAL", 0.0)
    return FixedLedger()


def start(starts: AnonymousStarts, limit: AddressLimit = LIMIT, *, stored: bool = True) -> UUID:
    execution_id = new_id()
    starts.count(limit)
    starts.let_in(limit, execution_id)
    starts.let_out(limit, execution_id, stored=stored)
    return execution_id


def test_what_runs_does_not_count_and_comes_back_when_it_retries(ledger: FixedLedger) -> None:
    """Waiting ones alone count; an execution that waits for its retry is one again."""
    starts = AnonymousStarts(ledger)
    ids = [start(starts) for _ in range(3)]
    ledger.statuses = {ids[0]: "running", ids[1]: "running", ids[2]: "pending"}
    ids += [start(starts), start(starts)]
    ledger.statuses = dict.fromkeys(ids, "retrying")
    with pytest.raises(QueueFull):
        start(starts)


def test_the_ledger_is_asked_at_the_limit_only(ledger: FixedLedger) -> None:
    """Below it a start costs no query."""
    starts = AnonymousStarts(ledger)
    for _ in range(3):
        start(starts)
    assert ledger.asked == 0
    start(starts)
    assert ledger.asked == 1


def test_the_ledger_is_asked_once_a_second(
    ledger: FixedLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flood that is refused costs no query each."""
    monkeypatch.setattr(anonymous_starts, "COUNT_INTERVAL", 3600.0)
    starts = AnonymousStarts(ledger)
    ledger.statuses = dict.fromkeys([start(starts) for _ in range(3)], "pending")
    for _ in range(10):
        assert not (ledger.asked and starts.is_due(LIMIT))
        with pytest.raises(QueueFull):
            start(starts)
    assert ledger.asked == 1


def test_a_start_that_is_refused_or_fails_leaves_nothing(ledger: FixedLedger) -> None:
    """Neither a place nor an address."""
    starts = AnonymousStarts(ledger)
    for _ in range(10):
        start(starts, stored=False)
    assert not starts._addresses


def test_an_address_whose_tasks_have_ended_is_forgotten(ledger: FixedLedger) -> None:
    """At its next count."""
    starts = AnonymousStarts(ledger)
    for _ in range(3):
        start(starts)
    starts.count(LIMIT)
    assert not starts._addresses
    assert starts._ids == 0


def test_ids_of_many_addresses_are_bounded(
    ledger: FixedLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address that has been quiet for the longest time goes first."""
    monkeypatch.setattr(anonymous_starts, "MAX_IDS", 10)
    starts = AnonymousStarts(ledger)
    start(starts, AddressLimit("flood", 100))
    for number in range(30):
        start(starts, AddressLimit(str(number), 100))
        start(starts, AddressLimit("flood", 100))
    assert "flood" in starts._addresses
    assert starts._ids == sum(len(it.unfinished) for it in starts._addresses.values())
    assert len(starts._addresses) <= 10
