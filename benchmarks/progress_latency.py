"""How long from `update_progress()` to a subscriber that watches the task?"""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from benchmarks.harness import Case, Question, percentiles

PAUSE = 0.003
# Less than the pause: what is measured is the way of an event, not how long it is held back.
INTERVAL = 0.001


async def ours(count: int, subscribers: int) -> dict[str, float]:
    from benchmarks.tasks import Board, boards, report, settled
    from rail_async_tasks import service
    from rail_async_tasks.access import SYSTEM

    board = Board(subscribers)
    boards.append(board)
    handle = await report.aenqueue(count=count, pause=PAUSE)

    async def subscribe() -> None:
        joined, last = False, None
        async with aclosing(service.watch(SYSTEM, handle.id)) as snapshots:
            async for snapshot in snapshots:
                if not joined:
                    joined = True
                    board.join()
                elif snapshot.progress_message not in {None, last} and not snapshot.is_final:
                    last = snapshot.progress_message
                    board.receive()

    async with asyncio.TaskGroup() as group:
        for _ in range(subscribers):
            group.create_task(subscribe())
    await settled()
    assert len(board.latencies) == count * subscribers
    return percentiles(board.latencies)


async def queues(count: int, subscribers: int) -> dict[str, float]:
    """The same number of bare asyncio queues, each with its reader."""
    from benchmarks.tasks import Board

    board = Board(subscribers)
    channels: list[asyncio.Queue[int]] = [asyncio.Queue() for _ in range(subscribers)]

    async def read(channel: asyncio.Queue[int]) -> None:
        board.join()
        for _ in range(count):
            await channel.get()
            board.receive()

    async with asyncio.TaskGroup() as group:
        for channel in channels:
            group.create_task(read(channel))
        await board.everybody()
        for number in range(count):
            await asyncio.sleep(PAUSE)
            board.send()
            for channel in channels:
                channel.put_nowait(number)
            await board.everybody()
    return percentiles(board.latencies)


def _case(label: str, subscribers: int, quick: bool) -> Case:
    return Case(
        label=label,
        measure=f"{__name__}:ours",
        beside=f"{__name__}:queues",
        parameters={"count": 300, "subscribers": subscribers},
        quick={"count": 10} if quick else None,
        database="sqlite",
        settings={"progress_interval_seconds": INTERVAL},
    )


QUESTION = Question(
    name="progress_latency",
    title="From `update_progress()` to a subscriber",
    beside="a bare `asyncio.Queue` for each subscriber",
    cases=[
        _case("1 subscriber", 1, quick=False),
        _case("100 subscribers", 100, quick=True),
    ],
)
