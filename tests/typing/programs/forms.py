"""Every form of a declaration, as type checkers see it: `assert_type` holds what must be known."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from decimal import Decimal
from typing import Any, assert_type

import strawberry

from rail_async_tasks import BoundTask, Task, TaskHandle, TaskInfo, task, task_mutation


@task
async def with_root(root: Any, info: TaskInfo, number: int, text: str = "") -> dict[str, Any]:
    """Takes root and info, and arguments of which one has a default."""
    return {"number": number, "text": text}


@task(name="forms.with_info", queue="high")
async def with_info(info: TaskInfo, number: int) -> list[str]:
    return [str(number)]


@task
async def with_neither(number: int, *, factor: Decimal = Decimal(1)) -> str:
    return str(number * factor)


@task_mutation
def plain_with_root(root: None, info: TaskInfo, number: int) -> int:
    return number


@task_mutation(name="forms.plain_with_info", max_retries=0)
def plain_with_info(info: TaskInfo, number: int) -> int:
    return number


@task_mutation
def plain(number: int) -> int:
    return number


@task(cron="0 3 * * *")
def nightly() -> None: ...


@task
async def with_info_of_strawberry(root: Any, info: strawberry.Info[Any, Any], number: int) -> int:
    return number


# What takes any JSON is no info, and no root, wherever it stands.
@task
async def any_json(key: str, value: Any) -> Any:
    return value


@task
async def any_json_first(value: Any) -> dict[str, Any]:
    return {"value": value}


def from_sync_code() -> None:
    """Each start takes the function's arguments, and its handle has the result's type."""
    assert_type(with_root.enqueue(1), TaskHandle[dict[str, Any]])
    assert_type(with_root.enqueue(1, "one"), TaskHandle[dict[str, Any]])
    assert_type(with_root.enqueue(number=1, text="one"), TaskHandle[dict[str, Any]])
    assert_type(with_info.enqueue(number=1), TaskHandle[list[str]])
    assert_type(with_neither.enqueue(1, factor=Decimal(2)), TaskHandle[str])
    assert_type(plain_with_root.enqueue(number=1), TaskHandle[int])
    assert_type(plain_with_info.enqueue(number=1), TaskHandle[int])
    assert_type(plain.enqueue(1), TaskHandle[int])
    assert_type(nightly.enqueue(), TaskHandle[None])
    assert_type(with_info_of_strawberry.enqueue(1), TaskHandle[int])
    assert_type(any_json.enqueue("a", {"b": 1}), TaskHandle[Any])
    assert_type(any_json_first.enqueue([1]), TaskHandle[dict[str, Any]])
    assert_type(any_json_first.enqueue(value=[1]), TaskHandle[dict[str, Any]])

    assert_type(plain.enqueue(1).result(), int)
    assert_type(with_info.enqueue(1).refresh().cancel().result(5), list[str])
    assert_type(nightly.enqueue().result(), None)


async def from_async_code() -> None:
    """The same, awaited."""
    assert_type(await with_root.aenqueue(1), TaskHandle[dict[str, Any]])
    assert_type(await with_info.aenqueue(number=1), TaskHandle[list[str]])
    assert_type(await plain.aenqueue(1), TaskHandle[int])
    handle = await with_info.using(queue="low").aenqueue(1)
    assert_type(await handle.aresult(), list[str])
    assert_type(await (await handle.arefresh()).aresult(5), list[str])


def using() -> None:
    """Options keep arguments and result, also when they are added one after the other."""
    low = with_neither.using(queue="low")
    assert_type(low.using(delay=5).enqueue(1, factor=Decimal(2)), TaskHandle[str])
    assert_type(low.enqueue(number=1).result(), str)
    # A task that has options needs no coroutine for its own call: it is none.
    bound: BoundTask[[int], int] = plain.using(priority=3)
    assert_type(bound.enqueue(1), TaskHandle[int])


async def calls(info: TaskInfo) -> None:
    """A call of the task is a call of the function, root and info included."""
    assert_type(await with_root(None, info, 1), dict[str, Any])
    assert_type(await with_root(None, info, number=1, text="one"), dict[str, Any])
    assert_type(await with_info(info, 1), list[str])
    assert_type(await with_neither(1), str)
    assert_type(plain_with_root(None, info, 1), int)
    assert_type(plain_with_info(info, number=1), int)
    assert_type(plain(1), int)


def start(it: Task[[int], int]) -> int:
    """Tasks can be arguments: their own, and a result."""
    return it.enqueue(1).result()


def start_any(it: Task) -> TaskHandle:
    """Without parameters a task takes and gives anything."""
    return it.enqueue(1, anything=True)


def start_object(it: Task[[int], object]) -> object:
    """The result is covariant."""
    return it.enqueue(1).result()


def passes() -> None:
    assert_type(start(plain), int)
    assert_type(start(plain_with_info), int)
    start_any(with_root)
    start_object(plain)
    handles: list[TaskHandle[object]] = [plain.enqueue(1), with_info.enqueue(1)]
    del handles
    starts: Callable[[int], TaskHandle[int]] = plain_with_root.enqueue
    awaited: Callable[[int], Coroutine[Any, Any, TaskHandle[int]]] = plain_with_root.aenqueue
    called: Callable[[Any, TaskInfo, int], Awaitable[dict[str, Any]]] = with_root
    del starts, awaited, called
