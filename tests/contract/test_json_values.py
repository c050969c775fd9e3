"""JSON comes out of every ledger equal and of the same types, by every path."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rail_async_tasks.codec import ArgumentsCodec, encode_result
from rail_async_tasks.ledger.snapshots import as_settled
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.states import Status
from tests.contract.conftest import ON_POSTGRES
from tests.support.json_values import CORNERS, nested, same, values
from tests.support.ledgers import NAME, Kit, outcome_of


def body(value: Any) -> None: ...


CODEC = ArgumentsCodec(body, task=NAME)


@pytest.fixture(params=[50, pytest.param(200, marks=pytest.mark.long)])
def made_up(request: pytest.FixtureRequest) -> list[Any]:
    """The corners, and values of so many examples."""
    return examples(request.param)


@cache
def examples(count: int) -> list[Any]:
    """The corners, and values that Hypothesis makes up, the same ones in each run.

    Made by the first test that asks: every test process imports this module.
    """
    found: list[Any] = [*CORNERS, nested(30)]  # MariaDB takes no more levels

    @settings(
        max_examples=count, derandomize=True, database=None, deadline=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.lists(values, max_size=4))
    def collect(made: list[Any]) -> None:
        found.extend(made)

    collect()
    return found


def arguments(value: Any) -> str:
    return CODEC.encode({"value": value}).decode()


def value_of(stored: str | bytes) -> Any:
    return CODEC.decode(stored)["value"]


async def test_arguments(kit: Kit, made_up: list[Any]) -> None:
    """As they are enqueued, claimed, and read by the ORM for a retry."""
    texts = [arguments(value) for value in made_up]
    ids = await asyncio.gather(*(kit.waiting(arguments=text) for text in texts))
    claimed = {it.snapshot.id: it.arguments for it in (await kit.claim(limit=len(ids))).claimed}
    wrong = []
    for execution_id, text, value in zip(ids, texts, made_up, strict=True):
        read = await kit.here(kit.ledger.arguments, execution_id)
        paths = {"enqueued": text, "claimed": claimed[execution_id], "read": read or ""}
        wrong += [
            (path, value, value_of(stored))
            for path, stored in paths.items()
            if not same(value_of(stored), value)
        ]
    assert wrong == []


async def test_arguments_of_a_retried_task(kit: Kit) -> None:
    """A value that was read of one row is stored in another one, and read there again."""
    texts = [arguments(value) for value in CORNERS]
    for _ in range(2):
        ids = await asyncio.gather(*(kit.waiting(arguments=text) for text in texts))
        texts = [await kit.here(kit.ledger.arguments, execution_id) or "" for execution_id in ids]
    wrong = [
        (value, value_of(text))
        for value, text in zip(CORNERS, texts, strict=True)
        if not same(value_of(text), value)
    ]
    assert wrong == []


async def test_results(kit: Kit, made_up: list[Any]) -> None:
    """As the process reports them that ran the task, and as every later reader finds them."""
    texts = [encode_result(value).decode() for value in made_up]
    ids = await asyncio.gather(*(kit.waiting() for _ in texts))
    claimed = {it.snapshot.id: it for it in (await kit.claim(limit=len(ids))).claimed}
    outcomes = [
        outcome_of(claimed[execution_id], Status.COMPLETED, result=text)
        for execution_id, text in zip(ids, texts, strict=True)
    ]
    settled = await asyncio.gather(*map(kit.send, outcomes))
    wrong = []
    for outcome, ended, value in zip(outcomes, settled, made_up, strict=True):
        assert ended is not None
        reported = as_settled(claimed[outcome.id].snapshot, outcome, ended)
        read = await kit.get(outcome.id)
        paths = {"reported": reported.result, "read": read.result}
        wrong += [(path, value, it) for path, it in paths.items() if not same(it, value)]
    assert wrong == []


@pytest.mark.parametrize("ledger_kind", ["sqlite", ON_POSTGRES], indirect=True)
async def test_a_users_own_query(kit: Kit) -> None:
    """The ORM compares numbers by value, whatever their type."""

    async def found(**conditions: Any) -> int:
        return await TaskExecution.objects.filter(**conditions).acount()

    claimed = await kit.running(arguments=arguments({"size": 1e22}))
    await kit.settle(claimed, Status.COMPLETED, result='{"size":1e22,"n":100.0}')
    assert await found(result__size__gt=1e21) == 1
    assert await found(result__n=100) == await found(result__n=100.0) == 1
    assert await found(arguments__value__size__lt=2e22) == 1
