"""Tasks as attributes of Strawberry types, and beside other decorators."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, assert_type

import strawberry
from strawberry.tools import merge_types

from rail_async_tasks import TaskHandle, TaskInfo, task, task_mutation

P = ParamSpec("P")
R = TypeVar("R")


@strawberry.input
class Box:
    width: int
    label: str | None = strawberry.UNSET


@task_mutation
async def pack(info: TaskInfo, box: Box, order: strawberry.ID | None = None) -> dict[str, int]:
    return {"width": box.width}


@strawberry.type
class TaskMutations:
    pack = pack
    pack_again = pack

    @task_mutation(name="schema.inside")
    async def inside(self, info: TaskInfo, width: int) -> int:
        return width


merged = merge_types("Mutation", (TaskMutations,))


def traced(function: Callable[P, R]) -> Callable[P, R]:
    """A decorator of the project's own, under ours: the signature passes through."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        return function(*args, **kwargs)

    return wrapper


@task
@traced
def weigh(info: TaskInfo, grams: int) -> float:
    return grams / 1000


def starts() -> None:
    assert_type(pack.enqueue(Box(width=1)), TaskHandle[dict[str, int]])
    assert_type(pack.enqueue(box=Box(width=1), order=strawberry.ID("7")).result(), dict[str, int])
    assert_type(weigh.enqueue(5).result(), float)
    assert_type(pack.name, str)
    pack.enqueue(1)  # E: arg-type, reportArgumentType
    weigh.enqueue("5")  # E: arg-type, reportArgumentType


def introspection() -> Any:
    return pack.__doc__, pack.__name__, pack.__wrapped__, pack.__signature__
