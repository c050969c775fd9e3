"""The tasks that are measured, and where their bodies leave word."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from benchmarks import counting
from rail_async_tasks import task, task_mutation
from rail_async_tasks.hosting import process as host


class Tally:
    """Counts bodies that ran, and signals when all expected ones have."""

    def __init__(self) -> None:
        self.count = 0
        self.started_at = 0.0
        self._expected = 0
        self._complete = asyncio.Event()
        self.release = asyncio.Event()

    def expect(self, count: int) -> None:
        self.count, self._expected = 0, count
        self._complete, self.release = asyncio.Event(), asyncio.Event()

    def add(self) -> None:
        self.count += 1
        if self.count == self._expected:
            self._complete.set()

    async def complete(self) -> None:
        """Returns when the last body has run."""
        await self._complete.wait()


class Board:
    """Where one reporting body and its subscribers meet: one report is on its way at a time."""

    def __init__(self, subscribers: int) -> None:
        self.latencies: list[float] = []
        self._subscribers = subscribers
        self._seen = 0
        self._all_saw = asyncio.Event()
        self._sent_at = 0.0

    def send(self) -> None:
        """A report leaves now."""
        self._sent_at = time.perf_counter()

    def receive(self) -> None:
        """A subscriber has it."""
        self.latencies.append(time.perf_counter() - self._sent_at)
        self.join()

    def join(self) -> None:
        """A subscriber is ready for the next report."""
        self._seen += 1
        if self._seen == self._subscribers:
            self._all_saw.set()

    async def everybody(self) -> None:
        """Returns when every subscriber has joined, or has the report that was sent."""
        await self._all_saw.wait()
        self._seen = 0
        self._all_saw.clear()


tally = Tally()
boards: list[Board] = []
released: list[asyncio.Event] = []


@task
async def noop() -> None:
    tally.add()


@task(timeout=60)
async def noop_with_timeout() -> None:
    tally.add()


@task
async def noted(number: int, text: str) -> None:
    tally.add()


@task
async def sleep(seconds: float) -> None:
    await asyncio.sleep(seconds)
    tally.add()


@task
async def hold() -> None:
    """Stay at work until the tally releases it."""
    tally.add()
    await tally.release.wait()


@task
async def note_the_start() -> None:
    tally.started_at = time.perf_counter()
    tally.add()


@task
async def return_the_start() -> float:
    """Returns when the body began, by a clock that all processes of a machine have in common."""
    return time.monotonic()


@task
async def report(root: Any, info: Any, count: int, pause: float) -> None:
    board = boards[-1]
    await board.everybody()
    for number in range(count):
        await asyncio.sleep(pause)
        board.send()
        info.context.task.update_progress(number % 100, str(number))
        await board.everybody()


@task
async def tick(info: Any, count: int, pause: float) -> None:
    """Report, so many times and so many seconds apart."""
    for number in range(count):
        await asyncio.sleep(pause)
        info.context.task.update_progress(100 * number / count, repr(time.monotonic()))


@task
async def tell_the_time(info: Any, count: int, pause: float) -> None:
    """Report the monotonic clock in nanoseconds, `count` times, once `released`."""
    await released[-1].wait()
    for number in range(count):
        await asyncio.sleep(pause)
        info.context.task.update_progress(number % 100, str(time.monotonic_ns()))
    await asyncio.sleep(pause)


async def settled() -> None:
    """Returns when the outcome of every body that ran is in the ledger."""
    runtime = host.current()
    while runtime is not None:
        now = runtime.statistics()
        if not now["running"] and not now["unsettled"]:
            return
        await asyncio.sleep(0.001)


@task
async def counted() -> None:
    counting.add()


@task_mutation
async def web_noop(number: int) -> None:
    """What a mutation over HTTP starts."""


@task
async def burn_as_coroutine(milliseconds: int) -> None:
    """Hold the loop and the CPU."""
    _burn(milliseconds)


@task
def burn_in_thread(milliseconds: int) -> None:
    """Hold the CPU in a thread of its own."""
    _burn(milliseconds)


def _burn(milliseconds: int) -> None:
    end = time.thread_time() + milliseconds / 1000
    while time.thread_time() < end:
        pass


BURNERS = {"async def": burn_as_coroutine, "def": burn_in_thread}
