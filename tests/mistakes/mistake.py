"""A mistake, its message, and what the message says to do: a test, and a row of the docs."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any


@dataclass(frozen=True)
class Mistake:
    """A row of the table.

    Attributes:
        done: the mistake, as the newcomer would describe it.
        says: the words of the message that name the thing and the rule.
        do: its words that name the remedy.
        where: where the newcomer reads it.

    In `says` and `do`, `…` stands for any text.
    """

    done: str
    says: str
    do: str
    where: str


# In the order of the tests, by the module that they are in.
MISTAKES: dict[str, list[Mistake]] = {}

# A test that makes the mistake, and returns the whole message.
Making = Callable[..., str] | Callable[..., Awaitable[str]]


def mistake(done: str, *, says: str, do: str, where: str) -> Callable[[Making], Callable[..., Any]]:
    """Makes a test of a function that makes the mistake, and a row of the table."""
    made = Mistake(done, says, do, where)

    def declare(making: Making) -> Callable[..., Any]:
        MISTAKES.setdefault(making.__module__, []).append(made)

        if inspect.iscoroutinefunction(making):

            @wraps(making)
            async def atest(*args: Any, **kwargs: Any) -> None:
                check(made, await making(*args, **kwargs))

            return atest

        @wraps(making)
        def test(*args: Any, **kwargs: Any) -> None:
            message = making(*args, **kwargs)
            assert isinstance(message, str)
            check(made, message)

        return test

    return declare


def check(made: Mistake, message: str) -> None:
    """Asserts that the message has the words, whatever its line breaks."""
    said = " ".join(message.split())
    for words in (made.says, made.do):
        assert re.search(".*?".join(map(re.escape, words.split("…"))), said), (
            f"{made.done}\nexpected: {words}\nthe message: {said}"
        )
