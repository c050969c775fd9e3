"""Long documents that come together are read and validated one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from strawberry.schema import schema as strawberry_schema

from rail_async_tasks.graphql import documents
from rail_async_tasks.graphql.turns import turn
from tests.support.api import Api, Configure
from tests.support.sockets import Socket

TOGETHER = 8
HONEST = {"data": {"shelves": 3}}


@pytest.fixture
def long(request: pytest.FixtureRequest) -> list[str]:
    """Documents that no other test has sent."""
    comment = request.node.name + "x" * documents.SHORT
    return [f"{{ shelves }} # {number} {comment}" for number in range(TOGETHER)]


class Rounds:
    """Counts the rounds of the loop: in each, everything that is ready has its turn."""

    def __init__(self) -> None:
        self.count = 0

    async def run(self) -> None:
        while True:
            self.count += 1
            await asyncio.sleep(0)


@pytest.fixture
async def rounds() -> AsyncIterator[Rounds]:
    """Counts while the test runs."""
    found = Rounds()
    task = asyncio.create_task(found.run())
    yield found
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@pytest.fixture
def validated_in(rounds: Rounds, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rounds in which documents are validated."""
    found: list[int] = []
    real = strawberry_schema.validate_document

    def validate(schema: Any, document: Any, rules: Any) -> Any:
        found.append(rounds.count)
        return real(schema, document, rules)

    monkeypatch.setattr(strawberry_schema, "validate_document", validate)
    return found


async def read(text: str, rounds: Rounds, found: list[int]) -> None:
    await turn(text)
    found.append(rounds.count)


async def read_together(texts: list[str], rounds: Rounds) -> list[int]:
    """Returns the rounds in which they are read."""
    found: list[int] = []
    await asyncio.gather(*(read(text, rounds, found) for text in texts))
    return found


async def test_between_two_long_documents_everything_else_has_a_turn(
    long: list[str], rounds: Rounds
) -> None:
    found = await read_together(long, rounds)
    assert len(set(found)) == TOGETHER


@pytest.mark.parametrize(
    "text",
    ["{ shelves }", "{ shelves } #" + "x" * 10_000_000, ""],
    ids=["short", "refused for its length", "empty"],
)
async def test_what_is_quick_waits_for_no_turn(
    configure: Configure, rounds: Rounds, text: str
) -> None:
    assert len(set(await read_together([text] * TOGETHER, rounds))) == 1


async def test_a_document_that_is_known_to_be_valid_waits_for_no_turn(
    api: Api, long: list[str], rounds: Rounds
) -> None:
    assert await api.send(long[0]) == HONEST
    assert len(set(await read_together([long[0]] * TOGETHER, rounds))) == 1


async def test_a_document_that_is_not_valid_takes_a_turn_each_time(
    api: Api, long: list[str], validated_in: list[int]
) -> None:
    """It is validated each time."""
    wrong = long[0].replace("shelves", "nothing")
    for _ in range(2):
        await asyncio.gather(*(api.post({"query": wrong}) for _ in range(TOGETHER)))
    assert len(set(validated_in)) == 2 * TOGETHER


async def test_over_http(api: Api, long: list[str], validated_in: list[int]) -> None:
    answers = await asyncio.gather(*(api.send(text) for text in long))
    assert answers == [HONEST] * TOGETHER
    assert len(set(validated_in)) == TOGETHER


async def test_over_websocket(api: Api, long: list[str], validated_in: list[int]) -> None:
    """Of one socket and of several."""
    sockets = [Socket() for _ in range(2)]
    for socket in sockets:
        await socket.ready()
    for number, text in enumerate(long):
        await sockets[number % 2].subscribe(text, str(number))
    for socket in sockets:
        answers = [await socket.receive() for _ in long]
        results = [it["payload"] for it in answers if it["type"] == "next"]
        assert results == [HONEST] * (TOGETHER // 2)
        await socket.leave()
    assert len(set(validated_in)) == TOGETHER
