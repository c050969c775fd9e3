"""`track()`: what it loops over, what it takes for the total, and how it ends."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import aclosing, closing
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group
from django.core.exceptions import SynchronousOnlyOperation
from django.core.paginator import Paginator

from rail_async_tasks.errors import TaskCancelled
from rail_async_tasks.ids import new_id
from rail_async_tasks.runtime.attempts.context import TaskContext

Reports = list[int]


@pytest.fixture
def reports() -> Reports:
    """The percentages that the task has reported."""
    return []


@pytest.fixture
def running(reports: Reports) -> TaskContext:
    """A running task."""
    return TaskContext(
        id=new_id(), name="t", attempt=1, queue="default",
        report=lambda percent, message: reports.append(percent),
    )  # fmt: skip


@pytest.fixture
def groups(database: Any) -> None:
    """Four rows to loop over, really committed: threads read them on their own connections."""
    Group.objects.bulk_create(Group(name=name) for name in "abcd")


def names() -> Any:
    return Group.objects.order_by("name")


def counted(count: int) -> Iterator[int]:
    yield from range(count)


async def acounted(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


# --- a QuerySet -----------------------------------------------------------------------------------


def test_a_queryset_by_for(
    groups: None, running: TaskContext, reports: Reports, django_assert_num_queries: Any
) -> None:
    """Its total is a count: one query for it, one for the rows."""
    with django_assert_num_queries(2):
        seen = [group.name for group in running.track(names())]
    assert seen == ["a", "b", "c", "d"]
    assert reports == [0, 25, 50, 75, 100]


async def test_a_queryset_by_async_for(
    groups: None, running: TaskContext, reports: Reports
) -> None:
    """It never queries on the event loop."""
    seen = [group.name async for group in running.track(names())]
    assert seen == ["a", "b", "c", "d"]
    assert reports == [0, 25, 50, 75, 100]


async def test_a_sliced_queryset_counts_its_slice(
    groups: None, running: TaskContext, reports: Reports
) -> None:
    """And the rows of `values_list` are rows like others."""
    seen = [name async for name in running.track(names().values_list("name", flat=True)[1:3])]
    assert (seen, reports) == (["b", "c"], [0, 50, 100])


@pytest.mark.parametrize(
    "make",
    [
        names,
        lambda: names().iterator(),
        lambda: Paginator(names(), 2),
        lambda: Group.objects.raw("SELECT * FROM auth_group"),
    ],
    ids=["queryset", "iterator", "paginator", "raw"],
)
async def test_a_query_on_the_loop_says_what_to_write(
    groups: None, running: TaskContext, make: Any
) -> None:
    """Django refuses it; the message names the remedy."""
    with pytest.raises(SynchronousOnlyOperation, match=r"`async for`.*plain def"):
        for _ in running.track(make()):
            pass


async def test_an_evaluated_queryset_may_be_looped_over_anywhere(
    groups: None, running: TaskContext, reports: Reports
) -> None:
    """Nothing is queried any more, not even for the total."""
    found = names()
    await sync_to_async(list)(found)
    assert [group.name for group in running.track(found)] == ["a", "b", "c", "d"]
    assert reports[-1] == 100


async def test_an_aiterator_has_no_total(
    groups: None, running: TaskContext, reports: Reports
) -> None:
    """Unless it is given."""
    assert [it.name async for it in running.track(names().aiterator())] == ["a", "b", "c", "d"]
    assert set(reports) == {0}
    del reports[:]
    assert len([it async for it in running.track(names().aiterator(), total=4)]) == 4
    assert reports == [0, 25, 50, 75, 100]


def test_an_iterator_has_no_total(groups: None, running: TaskContext, reports: Reports) -> None:
    """`.iterator()` is a generator like others."""
    assert len(list(running.track(names().iterator()))) == 4
    assert set(reports) == {0}


def test_a_paginator_is_its_pages(groups: None, running: TaskContext, reports: Reports) -> None:
    """It has no length, but it knows how many pages there are."""
    pages = [[it.name for it in page] for page in running.track(Paginator(names(), 3))]
    assert pages == [["a", "b", "c"], ["d"]]
    assert reports == [0, 50, 100]


# --- other iterables ------------------------------------------------------------------------------


class Unsure:
    """Has a length by its looks, as a stream of unknown length may."""

    def __iter__(self) -> Iterator[int]:
        return iter([1, 2])

    def __len__(self) -> int:
        raise TypeError("unknown")


class Endless(Unsure):
    """Has more items than a length can say, as `range(10**30)` has."""

    def __len__(self) -> int:
        return len(range(10**30))


@pytest.mark.parametrize(
    ("items", "seen", "reported"),
    [
        ([7, 8], [7, 8], [0, 50, 100]),
        ((), [], [0]),
        ({"a": 1, "b": 2}, ["a", "b"], [0, 50, 100]),
        ({"a": 1}.items(), [("a", 1)], [0, 100]),
        (range(3), [0, 1, 2], [0, 33, 66, 100]),
        (counted(2), [0, 1], [0, 0, 0]),
        (map(str, [1]), ["1"], [0, 0]),
        ("ab", ["a", "b"], [0, 50, 100]),
        (Unsure(), [1, 2], [0, 0, 0]),
        (Endless(), [1, 2], [0, 0, 0]),
    ],
    ids=lambda it: type(it).__name__,
)
def test_iterables(
    running: TaskContext,
    reports: Reports,
    items: Iterable[Any],
    seen: list[Any],
    reported: list[int],
) -> None:
    """The total is the length of what has one; without one only the message is shown."""
    assert list(running.track(items)) == seen
    assert reports == reported


def test_a_file(running: TaskContext, reports: Reports, tmp_path: Path) -> None:
    """Its lines, with a total that was counted before."""
    path = tmp_path / "lines"
    path.write_text("a\nb\n")
    with path.open() as file:
        assert list(running.track(file, total=2)) == ["a\n", "b\n"]
    assert reports == [0, 50, 100]


def test_what_can_only_be_awaited_says_so(running: TaskContext) -> None:
    """And the other way round; what cannot be looped over at all is Python's own error."""
    with pytest.raises(TypeError, match="write `async for`"):
        list(running.track(acounted(2)))  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="not iterable"):
        list(running.track(5))  # type: ignore[call-overload]


async def test_what_cannot_be_awaited_says_so(running: TaskContext) -> None:
    """A list by `async for`, say."""
    with pytest.raises(TypeError, match="of list; write `for`"):
        async for _ in running.track([1]):  # type: ignore[attr-defined]
            pass
    with pytest.raises(TypeError, match=r"Manager; write `\.all\(\)` behind it"):
        async for _ in running.track(Group.objects):
            pass


# --- totals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "total", [-1, -0.5, math.nan, math.inf, Decimal("NaN"), Decimal("sNaN"), "4", [4], -(10**400)],
    ids=lambda it: str(it)[:12],
)  # fmt: skip
def test_a_total_that_is_none(running: TaskContext, reports: Reports, total: Any) -> None:
    """Is refused at the call, by name, before anything is looped over."""
    with pytest.raises(ValueError, match=r"total must be a number from 0 up, not .*leave it out"):
        running.track([1, 2], total=total)
    assert reports == []


@pytest.mark.parametrize(
    ("total", "reported"),
    [
        (0, [0, 0, 0]),
        (1, [0, 100, 100]),
        (2, [0, 50, 100]),
        (8, [0, 12, 25]),
        (2.0, [0, 50, 100]),
        (Decimal(2), [0, 50, 100]),
        (Fraction(5, 2), [0, 40, 80]),
        (10**400, [0, 0, 0]),
    ],
    ids=lambda it: str(it)[:12],
)
def test_totals(running: TaskContext, reports: Reports, total: Any, reported: list[int]) -> None:
    """More items than that are 100; of a total of 0, as of none, nothing is reckoned."""
    assert list(running.track(counted(2), total=total)) == [0, 1]
    assert reports == reported


# --- its end --------------------------------------------------------------------------------------


def test_a_cancel_ends_it_before_the_next_item(running: TaskContext, reports: Reports) -> None:
    """As `raise_if_cancelled()` would: what was used up is reported, the generator closed."""
    ended, used = [], []

    def items() -> Iterator[int]:
        try:
            yield from range(4)
        finally:
            ended.append(True)

    generator = items()

    def body() -> None:
        for number in running.track(generator, total=4):
            used.append(number)
            if number == 1:
                running.request_end()

    with pytest.raises(TaskCancelled):
        body()
    assert (used, reports, ended) == ([0, 1], [0, 25, 50], [True])


async def test_a_cancel_ends_it_by_async_for_too(running: TaskContext) -> None:
    """Where the body has swallowed its own."""
    ended, used = [], []

    async def items() -> AsyncIterator[int]:
        try:
            for number in range(4):
                yield number
        finally:
            ended.append(True)

    async def body() -> None:
        async for number in running.track(items()):
            used.append(number)
            running.request_end()

    with pytest.raises(TaskCancelled):
        await body()
    assert (used, ended) == ([0], [True])


def test_a_cancelled_task_begins_no_loop(running: TaskContext) -> None:
    """Not even the total is asked for."""

    class Costly:
        def __len__(self) -> int:
            raise AssertionError

        def __iter__(self) -> Iterator[int]:
            raise AssertionError

    running.request_end()
    with pytest.raises(TaskCancelled):
        next(iter(running.track(Costly())))


def test_a_loop_that_is_left_early_lets_go_of_its_generator(running: TaskContext) -> None:
    """As it would without `track()`: at once, if nothing else holds it; else it goes on."""
    ended = []

    def items() -> Iterator[int]:
        try:
            yield from range(4)
        finally:
            ended.append(True)

    for _ in running.track(items()):
        break
    assert ended == [True]
    mine = items()
    for _ in running.track(mine):
        break
    assert (list(mine), ended) == ([1, 2, 3], [True, True])
    with closing(running.track(items())) as tracked:  # type: ignore[type-var]
        next(tracked)
    assert len(ended) == 3


async def test_an_async_loop_that_is_left_early(running: TaskContext) -> None:
    """`aclosing()` closes what is looped over."""
    ended = []

    async def items() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            ended.append(True)

    async with aclosing(running.track(items())) as tracked:  # type: ignore[type-var]
        async for _ in tracked:
            break
    assert ended == [True]


SNIPPET = """
from collections.abc import AsyncIterator, Iterator
from typing import assert_type
from django.contrib.auth.models import User
from rail_async_tasks.runtime.attempts.context import TaskContext

async def numbers() -> AsyncIterator[int]:
    yield 1

async def body(task: TaskContext) -> None:
    assert_type(task.track([1]), Iterator[int])
    assert_type(task.track(numbers(), total=3, message="m"), AsyncIterator[int])
    for user in task.track(User.objects.all()):
        assert_type(user, User)
    async for same in task.track(User.objects.all()):
        assert_type(same, User)
    async for other in task.track(User.objects.aiterator()):
        assert_type(other, User)
"""


@pytest.mark.long
def test_its_items_keep_their_types(tmp_path: Path) -> None:
    """Under mypy's strict rules, by `for` and by `async for`."""
    pytest.importorskip("mypy")
    path = tmp_path / "snippet.py"
    path.write_text(SNIPPET)
    command = [sys.executable, "-m", "mypy", "--strict", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
