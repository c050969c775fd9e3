"""Cancel against completion, and bodies that will not be cancelled."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from typing import Any

from tests.faults.bodies import notes
from tests.faults.fleet import Fleet, forms, gone, on, rows, until_final
from tests.support.client import FIELDS, FINAL, FOLLOW, Client, Event, subscribe
from tests.support.measures import report, spread

CANCEL = "mutation($id: ID!) { cancelTask(id: $id) { status cancelRequested seq } }"
RACERS = 10
# Each outcome of a race must come, in so many times the races at most.
EACH = ("running -> cancelled", "running -> completed", "ALREADY_FINAL -> completed")
MOST = 20
BODIES = ("race", "race", "raceOn", "raceInThread")
# What a row, a query and a stream's last event must agree on.
SHOWN = {
    "status": "status", "progress": "progress", "result": "result", "errorCode": "error_code",
    "cancelRequested": "cancel_requested", "attempts": "attempts", "seq": "seq",
}  # fmt: skip


async def asked(client: Client, task_id: str, after: float) -> str:
    """Returns the mutation's answer: the status that it sees, or the code of its refusal."""
    await asyncio.sleep(after)
    answer = (await client.post(CANCEL, id=task_id)).json()
    if "errors" in answer:
        return str(answer["errors"][0]["extensions"]["code"])
    cancelled = answer["data"]["cancelTask"]
    assert cancelled["cancelRequested"] is True
    return str(cancelled["status"])


async def followed(ws: Any, task_id: str) -> list[Event]:
    """The events of one subscription among many on a socket, to its `complete`."""
    await subscribe(ws, FOLLOW, {"id": task_id}, name=task_id)
    events = []
    async for frame in ws:
        message = json.loads(frame)
        assert message["id"] == task_id, message
        if message["type"] == "complete":
            return events
        events.append(message["payload"]["data"]["taskProgress"])
    raise AssertionError("The socket was closed.")


class Handicap:
    """How long bodies take, so that cancels come too late about as often as they do not."""

    def __init__(self) -> None:
        self._seconds = 0.03

    def draw(self) -> float:
        return self._seconds * random.uniform(0.5, 1.5)

    def learn(self, answer: str) -> None:
        self._seconds *= 1.1 if answer == "ALREADY_FINAL" else 0.9


async def race(clients: list[Client], ws: Any, number: int, handicap: Handicap) -> str:
    """One race. Returns how it came out: what was answered, and how the task ended."""
    here, there = clients
    body = BODIES[number % len(BODIES)]
    task_id = await here.start(f"{body}(seconds: {handicap.draw():.4f})")
    asks = there if number % 5 == 4 else here  # the other process hears of it by the row alone
    answer, events = await asyncio.gather(
        asked(asks, task_id, random.uniform(0, 0.01)), followed(ws, task_id)
    )
    handicap.learn(answer)
    [row] = await rows([task_id])
    query = f"query($id: ID!) {{ task(id: $id) {{ {FIELDS} }} }}"
    read = (await there.ask(query, id=task_id))["task"]
    for shown in (events[-1], read):
        assert {key: shown[key] for key in SHOWN} == {
            key: getattr(row, column) for key, column in SHOWN.items()
        }
    assert [event["status"] in FINAL for event in events] == [False] * (len(events) - 1) + [True]
    versions = [(event["seq"], event["step"]) for event in events]
    assert versions == sorted(set(versions))
    if answer == "cancelled":  # it waited: its body never runs
        assert (row.status, row.attempts, row.cancel_requested) == ("cancelled", 0, True)
    elif answer == "running":  # it may complete all the same
        assert (row.status, row.cancel_requested) in [("cancelled", True), ("completed", True)]
        assert row.attempts == 1
    else:  # it came too late, and has left no trace
        assert (answer, row.status) == ("ALREADY_FINAL", "completed")
        assert (row.cancel_requested, row.attempts, row.seq) == (False, 1, 3)
    return f"{answer} -> {row.status}"


@forms("races", on("postgres", 50), on("postgres", 1000, long=True),
       on("sqlite", 1000, long=True))  # fmt: skip
async def test_cancel_against_completion(database: Any, fleet: Fleet, races: int) -> None:
    """Row, answer and stream agree each time, whichever comes first."""
    servers = await fleet.serve_many(2, max_concurrency=4, max_workers=2)
    clients = [fleet.client(server) for server in servers]
    outcomes: Counter[str] = Counter()
    handicap = Handicap()

    async def racer(first: int) -> None:
        async with clients[first % 2].socket() as ws:
            pair = [clients[first % 2], clients[1 - first % 2]]
            number = first
            # On a slow machine it takes more of them until bodies are as fast as cancels.
            while number < races or (number < MOST * races and not set(EACH) <= set(outcomes)):
                outcomes[await race(pair, ws, number // RACERS + first, handicap)] += 1
                number += RACERS

    began = time.monotonic()
    await asyncio.gather(*map(racer, range(RACERS)))
    seconds = time.monotonic() - began
    assert outcomes.total() >= races
    for outcome in EACH:
        assert outcomes[outcome], outcomes  # else it was no race
    report(
        "cancel", database=database.kind, races=races, outcomes=outcomes, seconds=round(seconds, 1)
    )


@forms("count", on("postgres", 5), on("postgres", 50, long=True), on("sqlite", 50, long=True))
async def test_bodies_that_swallow_every_cancel(database: Any, fleet: Fleet, count: int) -> None:
    """Their rows are final after the grace, they are asked twice, and do not hold up the exit."""
    grace = 1.0
    # A server that waited for them would wait for so long.
    server = await fleet.serve(cancel_grace_seconds=grace, drain_seconds=3600)
    client = fleet.client(server)
    ids = await asyncio.gather(*(client.start("swallow") for _ in range(count)))
    await asyncio.gather(*(client.until(task_id, "running") for task_id in ids))
    began = time.monotonic()
    answers = await asyncio.gather(*(asked(client, task_id, 0) for task_id in ids))
    assert set(answers) == {"running"}
    took = []
    for row in await until_final(ids):
        assert (row.status, row.error_code) == ("cancelled", "cancelled")
        assert row.completed_at
        assert row.started_at
    took.append(time.monotonic() - began)
    assert took[0] > grace * 0.9
    assert server.said().count("it is given up") == count
    # The slots are free: others run.
    [row] = await until_final([await client.start("race(seconds: 0)")])
    assert row.status == "completed"
    # Asked a few times each, and not without a pause.
    asked_again = Counter(it.task for it in notes.read_file(fleet.notes_file))
    assert set(asked_again) == set(ids)
    assert max(asked_again.values()) <= 3
    seconds = await gone(server)
    report(
        "swallow", database=database.kind, bodies=count, final_after=spread(took),
        exit_seconds=round(seconds, 2),
    )  # fmt: skip
