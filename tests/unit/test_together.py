"""Questions to the database that are asked at the same time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from contextvars import ContextVar

import pytest
from asgiref.sync import async_to_sync

from rail_async_tasks import together
from rail_async_tasks.together import Together
from tests.support.waiting import TIMEOUT


class Database:
    """Answers when a test lets it; keeps what each call asked."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.go = threading.Semaphore(0)
        self.begun = threading.Semaphore(0)

    def __call__(self, questions: Sequence[int]) -> list[int]:
        self.calls.append(list(questions))
        self.begun.release()
        assert self.go.acquire(timeout=TIMEOUT)
        if -1 in questions:
            raise LookupError
        return [question * 2 for question in questions]

    async def is_asked(self) -> None:
        assert await asyncio.to_thread(self.begun.acquire, timeout=TIMEOUT)


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


async def test_an_error_is_that_of_one_caller() -> None:
    """Those who are asked for with it have their answers, each in a call of its own."""
    database = Database()
    for _ in range(4):
        database.go.release()
    ask = Together(database)
    answers = await asyncio.gather(*map(ask, (1, -1, 2)), return_exceptions=True)
    assert (answers[0], type(answers[1]), answers[2]) == (2, LookupError, 4)
    assert database.calls == [[1, -1, 2], [1], [-1], [2]]


caller: ContextVar[str] = ContextVar("caller", default="no caller")


async def ask_as(name: str, ask: Together[int, str]) -> str:
    caller.set(name)
    return await ask(1)


@pytest.mark.parametrize(("alone", "seen"), [(False, ["no caller"] * 2), (True, ["ada", "bob"])])
async def test_a_call_for_several_is_in_no_callers_context(alone: bool, seen: list[str]) -> None:
    """The first one's tenant, say, is not the others'; who is asked for alone has their own."""
    ask = Together[int, str](lambda asked: [caller.get()] * len(asked), alone=lambda: alone)
    both = [asyncio.create_task(ask_as(name, ask)) for name in ("ada", "bob")]
    assert await asyncio.gather(*both) == seen


def test_it_asks_in_the_thread_that_waits_for_it() -> None:
    """As in a `TestCase`, whose transaction is in that thread."""
    ask = Together[int, threading.Thread](lambda asked: [threading.current_thread()])
    assert async_to_sync(ask)(1) is threading.current_thread()


async def test_a_call_has_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest comes with the next one."""
    monkeypatch.setattr(together, "MOST", 2)
    database = Database()
    for _ in range(2):
        database.go.release()
    ask = Together(database)
    assert await asyncio.gather(*map(ask, range(3))) == [0, 2, 4]
    assert database.calls == [[0, 1], [2]]
