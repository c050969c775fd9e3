"""Questions to the database that are asked at the same time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from rail_async_tasks import together
from rail_async_tasks.together import Together


class Database:
    """Answers when a test lets it; keeps what each call asked."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.go = threading.Semaphore(0)
        self.begun = threading.Semaphore(0)

    def __call__(self, questions: Sequence[int]) -> list[int]:
        self.calls.append(list(questions))
        self.begun.release()
        assert self.go.acquire(timeout=10)
        if -1 in questions:
            raise LookupError
        return [question * 2 for question in questions]

    async def is_asked(self) -> None:
        assert await asyncio.to_thread(self.begun.acquire, timeout=10)


async def test_those_who_come_meanwhile_share_the_next_call() -> None:
    """None gets an answer that was read before it asked."""
    database = Database()
    ask = Together(database)
    first = asyncio.ensure_future(ask(1))
    await database.is_asked()
    others = [asyncio.ensure_future(ask(number)) for number in (2, 3, 2)]
    await asyncio.sleep(0)
    database.go.release()
    database.go.release()
    assert await asyncio.gather(first, *others) == [2, 4, 6, 4]
    assert database.calls == [[1], [2, 3, 2]]


async def test_a_caller_who_leaves_is_not_asked_for() -> None:
    """And disturbs no other."""
    database = Database()
    ask = Together(database)
    first = asyncio.ensure_future(ask(1))
    await database.is_asked()
    leaves, stays = asyncio.ensure_future(ask(2)), asyncio.ensure_future(ask(3))
    await asyncio.sleep(0)
    leaves.cancel()
    first.cancel()
    await asyncio.wait([leaves, first])
    database.go.release()
    database.go.release()
    assert await stays == 6
    assert database.calls == [[1], [3]]


async def test_an_error_is_that_of_its_callers() -> None:
    """The next ones are asked for."""
    database = Database()
    ask = Together(database)
    for _ in range(2):
        database.go.release()
    with pytest.raises(LookupError):
        await ask(-1)
    assert await ask(4) == 8


async def test_a_call_has_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest comes with the next one."""
    monkeypatch.setattr(together, "MOST", 2)
    database = Database()
    for _ in range(2):
        database.go.release()
    ask = Together(database)
    assert await asyncio.gather(*map(ask, range(3))) == [0, 2, 4]
    assert database.calls == [[0, 1], [2]]
