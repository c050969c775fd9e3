"""Tasks that give, raise and say what no task should."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import strawberry
from strawberry.scalars import JSON

from rail_async_tasks import task_mutation

# What no JSON document can be, or no database can hold.
HALF = "\ud83d"


def _cycle() -> Any:
    rows: dict[str, Any] = {"rows": []}
    rows["rows"].append(rows)
    return rows


def _nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


class _Rude:
    def __repr__(self) -> str:
        raise RuntimeError("no repr either")


GIFTS: dict[str, Callable[[], Any]] = {
    "an object": lambda: {"rows": [{"price": object()}]},
    "a rude object": _Rude,
    "a class": lambda: _Rude,
    "a set": lambda: {1, 2},
    "bytes": lambda: b"abc",
    "nan": lambda: {"price": float("nan")},
    "infinity": lambda: [float("-inf")],
    "a key that is a number": lambda: {1: "one"},
    "nul": lambda: {"text": "a\0b"},
    "a key with nul": lambda: {"a\0b": 1},
    "half a pair": lambda: [HALF],
    "a key with half a pair": lambda: {HALF: 1},
    "a cycle": _cycle,
    "nesting": lambda: _nested(5000),
    "many digits": lambda: 10**5000,
    "50 MB": lambda: "x" * 50_000_000,
    "just too large": lambda: "x" * (262_144 - 1),
    "just not too large": lambda: "x" * (262_144 - 2),
    "beyond 64 bits": lambda: [2**70, -(2**70)],
    "every control character but nul": lambda: "".join(map(chr, range(1, 32))),
    "a whole pair": lambda: "\U0001f600",
}


@task_mutation(name="bad.give", max_retries=2)
async def give(what: str) -> Any:
    """Return it, once."""
    return GIFTS[what]()


@task_mutation(name="bad.give_in_thread", max_retries=2)
def give_in_thread(what: str) -> Any:
    """The same in a thread."""
    return GIFTS[what]()


class Unspeakable(Exception):
    """Raises when it is asked what it says."""

    def __str__(self) -> str:
        raise RuntimeError("ask another one")

    __repr__ = __str__


ERRORS: dict[str, Callable[[], BaseException]] = {
    "unspeakable": Unspeakable,
    "nul": lambda: ValueError("a\0b"),
    "half a pair": lambda: ValueError(f"a{HALF}b"),
    "long": lambda: ValueError("é" * 1_000_000),
    "silent": ValueError,
}


@task_mutation(name="bad.throw", max_retries=0)
async def throw(what: str) -> None:
    """Raise it."""
    error = ERRORS[what]()
    raise error


@task_mutation(name="bad.throw_in_thread", max_retries=0)
def throw_in_thread(what: str) -> None:
    """The same in a thread."""
    error = ERRORS[what]()
    raise error


REPORTS: dict[str, tuple[Any, Any]] = {
    "150": (150, "too much"),
    "-1": (-1, None),
    "nan": (float("nan"), None),
    "text": ("50", None),
    "nul": (50, "a\0b"),
    "half a pair": (50, f"a{HALF}b"),
    "long": (50, "é" * 1_000_000),
    "a number": (50, 7),
}


@task_mutation(name="bad.report", max_retries=0)
async def report(info: Any, what: str) -> None:
    """Report it as progress."""
    info.context.task.update_progress(*REPORTS[what])


@task_mutation(name="bad.cling")
async def cling(info: Any, seconds: float) -> None:
    """Not end when asked to, for so long."""
    end = time.monotonic() + seconds
    info.context.task.update_progress(5)
    while (left := end - time.monotonic()) > 0:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(left)


@task_mutation(name="bad.take")
async def take(data: JSON, number: int = 0, share: float = 0.0) -> Any:
    """Give back what was given."""
    return data


@strawberry.type
class Mutations:
    """All of them."""

    give = give
    give_in_thread = give_in_thread
    throw = throw
    throw_in_thread = throw_in_thread
    report = report
    cling = cling
    take = take
