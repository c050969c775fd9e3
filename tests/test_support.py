"""The suite's own tools: the fake clock, the order of files, the cells of matrices."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from itertools import combinations, product
from types import SimpleNamespace

import pytest

from tests.support import order
from tests.support.clock import START, FakeClock
from tests.support.covering import covering, leave_out, take_turns


async def test_sleeps_end_when_the_clock_is_advanced(clock: FakeClock) -> None:
    """An hour of sleep takes no time, and ends at its own time."""
    began, ended_at = time.monotonic(), 0.0
    start = clock.monotonic()

    async def sleep() -> None:
        nonlocal ended_at
        await asyncio.sleep(3600)
        ended_at = clock.monotonic() - start

    sleeper = asyncio.create_task(sleep())
    await clock.advance(3599)
    assert not sleeper.done()
    await clock.advance(10)
    assert sleeper.done()
    assert ended_at == pytest.approx(3600)
    assert time.monotonic() - began < 1800


async def test_a_loop_that_sleeps_runs_each_time(clock: FakeClock) -> None:
    """Advancing by ten periods runs ten rounds, not one."""
    rounds = []

    async def work() -> None:
        start = clock.monotonic()
        while True:
            await asyncio.sleep(1)
            rounds.append(round(clock.monotonic() - start))

    worker = asyncio.create_task(work())
    await clock.advance(10)
    worker.cancel()
    assert rounds == list(range(1, 11))


async def test_time_outs_go_by_the_clock(clock: FakeClock) -> None:
    """`asyncio.timeout` and `asyncio.wait_for` end when the clock reaches them; dates follow."""

    async def wait() -> None:
        async with asyncio.timeout(5):
            await asyncio.wait_for(asyncio.Event().wait(), 7)

    waiting = asyncio.create_task(wait())
    await clock.advance(4)
    assert not waiting.done()
    await clock.advance(2)
    with pytest.raises(TimeoutError):
        await waiting
    assert clock.now() == START + timedelta(seconds=6)


async def test_cancelled_timers_do_not_hold_the_clock(clock: FakeClock) -> None:
    """A timer that was cancelled neither runs nor stops the clock on its way."""
    ran: list[int] = []
    loop = asyncio.get_running_loop()
    loop.call_later(1, ran.append, 1).cancel()
    loop.call_later(2, ran.append, 2)
    await clock.advance(3)
    assert ran == [2]


async def test_a_busy_loop_is_reported(clock: FakeClock) -> None:
    """A task that never waits fails the test instead of hanging it."""

    async def spin() -> None:
        while True:  # noqa: ASYNC110 (a busy loop is the point)
            await asyncio.sleep(0)

    spinning = asyncio.create_task(spin())
    with pytest.raises(AssertionError, match="still busy"):
        await clock.advance(1)
    spinning.cancel()


async def test_the_loop_has_its_own_clock_again_afterwards() -> None:
    """After the test the loop's time moves by itself."""
    loop = asyncio.get_running_loop()
    with FakeClock().driving(loop) as clock:
        assert loop.time() == clock.monotonic()
    before = loop.time()
    await asyncio.sleep(0.001)
    assert loop.time() > before


def test_a_clock_without_a_loop_jumps() -> None:
    """A decision by time alone needs no loop."""
    clock = FakeClock()
    clock.jump(90)
    assert clock.monotonic() == 90
    assert clock.now() == START + timedelta(seconds=90)


def test_the_files_that_take_longest_go_first() -> None:
    """In the order of the list; then those of slow folders, then all others, in any order."""
    longest = [order.TESTS / name for name in order.LONGEST]
    assert [file for file in longest if not file.is_file()] == []
    slow, other = order.TESTS / "faults/test_drain.py", order.TESTS / "unit/test_text.py"
    places = [order.place(file) for file in (*longest, slow, other)]
    assert places == sorted(set(places))
    assert all((order.TESTS / folder).is_dir() for folder in order.SLOW)


@pytest.mark.parametrize(
    ("sizes", "strength", "count"),
    [((2, 6), 1, 6), ((3, 3), 1, 3), ((2, 2, 9), 2, 18), ((2, 3, 4, 2), 2, 12), ((5,), 1, 5)],
)
def test_a_part_of_a_matrix_covers_it(sizes: tuple[int, ...], strength: int, count: int) -> None:
    """Each value, or each pair of values, is in a cell; there are few, and the same each time."""
    cells = list(product(*map(range, sizes)))
    chosen = covering(cells, strength)
    for places in combinations(range(len(sizes)), strength):
        wanted = set(product(*(range(sizes[place]) for place in places)))
        assert {tuple(cell[place] for place in places) for cell in chosen} == wanted
    assert count <= len(chosen) <= count + 2
    assert covering(cells[::-1], strength) == chosen


def test_what_a_matrix_leaves_out_is_long() -> None:
    """A cell that has found a fault is kept; one that is long by itself counts for nothing."""

    class Item:
        nodeid = "tests/test_it.py::test_it[…]"

        def __init__(self, number: int, word: str) -> None:
            params = {"number": number, "word": word}
            self.callspec = SimpleNamespace(id=f"{number}-{word}", params=params)
            self.marks = {"covering": pytest.mark.covering("number", "word", keep=["2-a"]).mark}
            if word == "c":
                self.add_marker(pytest.mark.long)

        def get_closest_marker(self, name: str) -> pytest.Mark | None:
            return self.marks.get(name)

        def add_marker(self, marker: pytest.MarkDecorator) -> None:
            self.marks[marker.name] = marker.mark

    items = [Item(number, word) for number in (1, 2) for word in "abc"]
    leave_out(items)  # type: ignore[arg-type]
    kept = [item.callspec.id for item in items if "long" not in item.marks]
    assert kept == ["1-a", "2-a", "2-b"]


def test_tests_that_take_turns_run_on_all_values_together() -> None:
    """Each on one; a value that has a mark of its own is in none of the turns."""

    class Item:
        def __init__(self, name: str, kind: str, store: str) -> None:
            self.nodeid = f"tests/test_it.py::{name}[{kind}-{store}]"
            self.callspec = SimpleNamespace(params={"kind": kind, "store": store})
            self.marks = {"turns": pytest.mark.turns("store").mark}
            if store == "mariadb":
                self.add_marker(pytest.mark.mariadb)

        def get_closest_marker(self, name: str) -> pytest.Mark | None:
            return self.marks.get(name)

        def add_marker(self, marker: pytest.MarkDecorator) -> None:
            self.marks[marker.name] = marker.mark

    stores = ("memory", "sqlite", "postgres", "mariadb")
    items = [Item(*it) for it in product(("test_one", "test_two"), ("a", "b", "c"), stores)]
    take_turns(items)  # type: ignore[arg-type]
    here = [it for it in items if not {"long", "mariadb"} & it.marks.keys()]
    assert sorted(it.callspec.params["store"] for it in here) == sorted(2 * stores[:3])
    assert len({it.nodeid.rpartition("-")[0] for it in here}) == len(here) == 6
