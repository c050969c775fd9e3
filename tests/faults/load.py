"""A steady load of tasks of every kind on one server, and whether what it uses stays flat."""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from asgiref.sync import sync_to_async

from rail_async_tasks.models import TaskExecution
from tests.faults.fleet import Fleet
from tests.faults.used import Used, options
from tests.support.client import FOLLOW, subscribe
from tests.support.server import Server
from tests.support.waiting import eventually

CANCEL: Final = "mutation($id: ID!) { cancelTask(id: $id) { status } }"
END_TIMEOUT: Final = 60.0  # for all that has been started to end, in seconds
# A load of so few seconds says nothing of memory, which the interpreter takes in pieces.
SHORT: Final = 60.0
WARM: Final = 2.0  # seconds of load before the figures are taken that it must come back to
# How long it takes at most until idle connections and streams of clients are forgotten, in seconds.
REST: Final = 60.0


@dataclass(frozen=True)
class Kind:
    """A mutation, how its task must end, and how many of every hundred tasks it is.

    `cancel` is when it is cancelled, in seconds after its start.
    """

    call: str
    end: str
    share: int
    cancel: float | None = None


# There are four threads for bodies that are no coroutines; one that waits takes one for a second.
KINDS: Final = (
    Kind("race(seconds: 0.05)", "completed", 30),
    Kind("work(seconds: 0.5)", "completed", 16),
    Kind("count", "completed", 15),
    Kind("countInThread", "completed", 15),
    Kind("raceInThread(seconds: 0.02)", "completed", 5),
    Kind("stumble", "completed", 5),  # once, and waits for its retry
    Kind('orm(how: "raise")', "failed", 3),
    Kind('ormInThread(how: "raise")', "failed", 2),
    Kind('orm(how: "wait")', "failed", 2),  # by its timeout
    Kind('ormInThread(how: "wait")', "failed", 1),
    Kind("work(seconds: 60)", "cancelled", 5, cancel=0.3),
    Kind("raceInThread(seconds: 60)", "cancelled", 1, cancel=0.3),
)
DEALT: Final = [kind for kind in KINDS for _ in range(kind.share)]


@dataclass
class Sample:
    """A server's use at one moment: MiB, and counts.

    `workers` are asyncio tasks too: those that run attempts, one each.
    """

    memory: float
    connections: float
    threads: float
    files: float
    asyncio_tasks: float
    workers: float
    kinds: Counter[str]  # of asyncio tasks


FIGURES: Final = ("memory", "connections", "threads", "files", "asyncio_tasks", "workers")

# By how much the server may use more than before the load, once nothing is at work any more: tasks
# and streams that have ended leave nothing. Threads and connections come and go for looks at the
# ledger. While tasks are at work these figures say how busy the machine is, not what has leaked.
AT_REST: Final = {"connections": 1.0, "threads": 4.0, "files": 3.0, "asyncio_tasks": 2.0}
# Memory is not given back: after the last third it may be above what it was after the second by
# this share and so many MiB. What is made once for each kind of statement and client, and for as
# many tasks as run at once, is made by then; the interpreter takes memory in pieces of a MiB. After
# 10 minutes at 50 tasks a second, 10,000 lie between the two: it is less than a KiB for each.
MEMORY: Final = (0.05, 2.0)
# One for each attempt that runs; a few that have just ended may be counted too.
MOST_WORKERS: Final = 2 * (100 + 4)
WORKER: Final = "rail_async_tasks.runtime.attempts.body_tasks._run"


@dataclass
class Outcome:
    """The outcome: `problems` is empty, or something was wrong."""

    started: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    streams: Counter[str] = field(default_factory=Counter)
    samples: list[Sample] = field(default_factory=list)  # while it was loaded
    rests: list[Sample] = field(default_factory=list)  # before, and after each third
    problems: list[str] = field(default_factory=list)

    def figures(self, what: str) -> list[float]:
        """At rest before the load and after each third of it; the median and the most under it."""
        loaded = [getattr(it, what) for it in self.samples]
        rests = [getattr(it, what) for it in self.rests]
        return [round(it, 1) for it in (*rests, statistics.median(loaded), max(loaded))]

    def table(self) -> str:
        """The figures, a line for each thing that is used."""
        heads = ("before", "1st third", "2nd third", "3rd third", "loaded", "most")
        lines = [f"{'':14}" + "".join(f"{head:>11}" for head in heads)]
        for what in FIGURES:
            lines.append(f"{what:14}" + "".join(f"{it:11.1f}" for it in self.figures(what)))
        lines += [f"{self.started} tasks: {dict(self.ends)}", f"streams: {dict(self.streams)}"]
        return "\n".join([*lines, *self.problems])


def left(before: Sample, after: Sample) -> list[str]:
    """Returns what did not go back."""
    problems = []
    for what, count in AT_REST.items():
        was, now = getattr(before, what), getattr(after, what)
        if now > was + count:
            problems.append(f"{what} did not go back: {was:.0f} before, {now:.0f} after")
            if what == "asyncio_tasks":
                problems.append(f"more of {after.kinds - before.kinds}")
    return problems


def judged(outcome: Outcome, *, memory: bool) -> list[str]:
    """Returns what was not flat; of the memory only where that is asked for."""
    before, _, second, third = outcome.rests
    problems = left(before, third)
    share, count = MEMORY
    if memory and third.memory > second.memory * (1 + share) + count:
        problems.append(f"memory grew from {second.memory:.1f} to {third.memory:.1f} MiB")
    if (most := max(it.workers for it in outcome.samples)) > MOST_WORKERS:
        problems.append(f"there were {most:.0f} workers")
    return problems


class Soak:
    """The load of one server."""

    def __init__(self, fleet: Fleet, server: Server, database: Any) -> None:
        self._fleet = fleet
        self._server = server
        self._used = Used(server.pid, database)
        self._client = fleet.client(server)
        self._kinds: dict[str, Kind] = {}
        self._outcome = Outcome()

    async def run(self, seconds: float, rate: float, every: float) -> Outcome:
        """Starts so many tasks a second, and samples once in so many seconds."""
        outcome = self._outcome
        await self._drive(WARM, rate)  # what is made once is made
        await self._rest()
        for _ in range(3):
            sampling = asyncio.create_task(self._sample(every))
            await self._drive(seconds / 3, rate)
            sampling.cancel()
            with suppress(asyncio.CancelledError):
                await sampling
            if not outcome.samples:  # on a slow machine the first one may come too late
                outcome.samples.append(await self._now())
            await self._rest()
        outcome.started = len(self._kinds)
        outcome.problems += [
            *await self._wrong(),
            *judged(outcome, memory=seconds > SHORT),
            *self._server.alarms()[:3],
        ]
        return outcome

    # --- the load --------------------------------------------------------------------------------

    async def _drive(self, seconds: float, rate: float) -> None:
        """Starts each task at its time, whether the ones before it have been answered or not."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(int(seconds * rate)):
                await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
                group.create_task(self._one(random.choice(DEALT), number))

    async def _one(self, kind: Kind, number: int) -> None:
        task_id = await self._client.start(kind.call)
        self._kinds[task_id] = kind
        if number % 8 == 0:
            how = ("socket", "sse", "eventsource")[number // 8 % 3]
            stays = number // 24 % 2 == 0
            if kind.cancel is None:
                await self._follow(how, task_id, stays=stays)
        if kind.cancel is not None:
            await asyncio.sleep(kind.cancel)
            await self._client.post(CANCEL, id=task_id)

    async def _follow(self, how: str, task_id: str, *, stays: bool) -> None:
        """Watches it to its end, or leaves after the first event."""
        client = self._client
        if stays:
            events = await client.everything(client.stream(how, task_id))
            assert events[-1]["status"] in {"completed", "failed", "cancelled"}
        elif how == "socket":
            async with client.socket() as ws:
                await subscribe(ws, FOLLOW, {"id": task_id})
                await ws.recv()
        else:
            async with client.sse(FOLLOW, {"id": task_id}, get=how == "eventsource") as lines:
                await anext(lines)
        self._outcome.streams[f"{how}, {'to the end' if stays else 'left'}"] += 1

    # --- the ends --------------------------------------------------------------------------------

    @sync_to_async
    def _wrong(self) -> list[str]:
        """Returns tasks that ended otherwise than they must, or are not there."""
        found = {
            str(task_id): end for task_id, end in TaskExecution.objects.values_list("id", "status")
        }
        problems = []
        for task_id, kind in self._kinds.items():
            end = found.get(task_id)
            self._outcome.ends[f"{end}"] += 1
            if end != kind.end:
                problems.append(f"{kind.call} {task_id} has ended as {end}, not {kind.end}")
        return problems[:10]

    # --- the figures -----------------------------------------------------------------------------

    async def _now(self) -> Sample:
        url = self._server.url.replace("/graphql/", "/plain/asyncio-tasks")
        kinds = Counter((await self._client.http.get(url)).json())
        workers = kinds.pop(WORKER, 0)
        used = self._used
        connections = await asyncio.to_thread(used.connections)
        return Sample(
            used.memory(), connections, used.threads(), used.files(), kinds.total(), workers, kinds
        )

    async def _sample(self, every: float) -> None:
        while True:
            await asyncio.sleep(every)
            self._outcome.samples.append(await self._now())

    async def _rest(self) -> None:
        """Takes the figures once all has ended: when they are as before the load, or after a while.

        Before it: once they have not changed for a second.
        """

        async def ended() -> bool:
            return not await TaskExecution.objects.filter(completed_at=None).aexists()

        await eventually(ended, "tasks that do not end", timeout=END_TIMEOUT, every=0.2)
        await self._client.http.aclose()
        self._client = self._fleet.client(self._server)
        rests = self._outcome.rests
        deadline = time.monotonic() + REST
        now = await self._now()
        while True:
            await asyncio.sleep(1)
            last, now = now, await self._now()
            at_rest = not left(rests[0] if rests else now, now) and not left(now, last)
            if at_rest or time.monotonic() > deadline:
                rests.append(now)
                return


async def soak(
    fleet: Fleet, database: Any, *, seconds: float, rate: float, every: float
) -> Outcome:
    """Starts a server, and loads it for so long."""
    fleet.env["FAULTS_DATABASE"] = json.dumps(options(database, {}))
    server = await fleet.serve()
    return await Soak(fleet, server, database).run(seconds, rate, every)
