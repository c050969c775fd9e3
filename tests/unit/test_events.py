"""Snapshots, their versions and topics."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from rail_async_tasks.ids import new_id
from rail_async_tasks.snapshot import TaskSnapshot, owner_topic, task_id_of, task_topic, topics

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def snapshot(**fields: Any) -> TaskSnapshot:
    values: dict[str, Any] = {"name": "n", "status": "pending", "queue": "q"} | fields
    return TaskSnapshot(id=new_id(), created_at=NOW, updated_at=NOW, **values)


@pytest.mark.parametrize(
    ("status", "final"),
    [
        ("pending", False), ("running", False), ("retrying", False),
        ("completed", True), ("failed", True), ("cancelled", True),
    ],
)  # fmt: skip
def test_is_final(status: str, final: bool) -> None:
    """Nothing can change any more."""
    assert snapshot(status=status).is_final is final


def test_versions_compare_by_state_then_by_step() -> None:
    """A change of state is newer than any progress before it."""
    versions = [snapshot(seq=seq, step=step).version for seq, step in [(1, 0), (1, 9), (2, 0)]]
    assert versions == sorted(set(versions)) == [(1, 0), (1, 9), (2, 0)]


def test_the_topics_of_an_owned_execution() -> None:
    """Its own and its owner's; without an owner only its own."""
    owned, free = snapshot(owner_id="7", tenant_id="a"), snapshot(tenant_id="a")
    assert topics(owned) == (task_topic(owned.id), owner_topic("7", "a"))
    assert topics(free) == (task_topic(free.id),)


def test_a_topic_tells_its_execution() -> None:
    """And an owner's topic has none."""
    it = new_id()
    assert task_id_of(task_topic(it)) == it
    assert task_id_of(owner_topic("7", None)) is None
    assert task_id_of(owner_topic("task:", "task:x")) is None


def test_no_two_owners_share_a_topic() -> None:
    """Whatever characters their ids and tenants are made of."""
    parts = [None, "", "a", "a:b", ":a", "a:", "1", "1:", "-", "-:", "0:"]
    owners = [(o, t) for o in parts if o is not None for t in parts]
    assert len({owner_topic(owner, tenant) for owner, tenant in owners}) == len(owners)
