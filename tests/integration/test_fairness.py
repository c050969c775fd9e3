"""Owners take turns: one who starts very many does not keep the others waiting."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from rail_async_tasks import service, task
from rail_async_tasks.service import EnqueueOptions
from tests.support.runtimes import Configure, on_databases
from tests.support.waiting import eventually

pytestmark = [on_databases, pytest.mark.usefixtures("ends_cleanly"), pytest.mark.turns("store")]


async def flood(
    configure: Configure, owners: dict[str | None, int], *, priority: dict[str, int] | None = None
) -> list[str]:
    """Returns the owners in the order of their starts: four at once, enqueued owner by owner."""
    configure(max_concurrency=4)
    order: list[str] = []
    go = asyncio.Event()

    @task(name="fair.body")
    async def body(info: Any, who: str) -> None:
        order.append(who)
        await go.wait()
        await asyncio.sleep(0.002)

    for owner, count in owners.items():
        for _ in range(count):
            options = EnqueueOptions(owner_id=owner, priority=(priority or {}).get(owner or ""))
            await service.aenqueue(body.definition, {"who": owner or "-"}, options)
    go.set()
    await eventually(lambda: len(order) == sum(owners.values()))
    return order


async def test_who_comes_after_a_flood_is_not_behind_all_of_it(
    store: str, configure: Configure
) -> None:
    """Three with five tasks each, behind one with 100."""
    order = await flood(configure, {"1": 100, "2": 5, "3": 5, None: 5})
    for who in ("2", "3", "-"):
        last = max(place for place, it in enumerate(order) if it == who)
        assert last < 60, order[:80]


async def test_priority_goes_before_fairness(store: str, configure: Configure) -> None:
    """A higher priority starts first, whichever owner it has."""
    order = await flood(configure, {"1": 40, "2": 20}, priority={"1": 5, "2": 0})
    first_of_low = order.index("2")
    assert order[:first_of_low].count("1") >= 36


async def test_one_owner_alone_is_not_slowed_down(store: str, configure: Configure) -> None:
    """All of theirs run, in the order in which they came."""
    order = await flood(configure, {"1": 60})
    assert order == ["1"] * 60
