"""Connections and threads of a server: they return to where they were, whatever tasks do."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import pytest

from tests.faults.fleet import Fleet, until_final
from tests.faults.load import AT_REST
from tests.faults.used import Used, options
from tests.support.client import Client
from tests.support.measures import report
from tests.support.waiting import eventually

CANCEL = "mutation($id: ID!) { cancelTask(id: $id) { status } }"
# Of every five tasks one is cancelled and one runs into its timeout of a second.
CALLS = [
    'orm(how: "return")', 'ormInThread(how: "return")', 'orm(how: "raise")',
    'ormInThread(how: "raise")', 'orm(how: "wait")', 'ormInThread(how: "wait")',
    'orm(how: "return")', 'ormInThread(how: "return")', 'orm(how: "wait")',
    'ormInThread(how: "wait")',
]  # fmt: skip
STATUSES = {"completed", "failed", "cancelled"}
# In one batch: as many as wait for threads, of which there are `WORKERS`, end in a few seconds.
BATCH, WORKERS = 50, 4

KINDS = {
    "sqlite": ("sqlite", {}),
    "postgres": ("postgres", {}),
    "pool": ("postgres", {"OPTIONS": {"pool": {"min_size": 1, "max_size": 4}}}),
    "max_age": ("postgres", {"CONN_MAX_AGE": 60}),
}


async def batch(client: Client) -> Counter[str]:
    """Runs so many tasks of all kinds; returns how they ended."""

    async def one(number: int) -> str:
        task_id = await client.start(CALLS[number % len(CALLS)])
        if number % len(CALLS) >= 8:
            await asyncio.sleep(0.2)
            await client.post(CANCEL, id=task_id)  # it may have ended
        return task_id

    ids = await asyncio.gather(*map(one, range(BATCH)))
    return Counter(row.status for row in await until_final(ids))


@pytest.mark.parametrize(
    ("database", "over", "batches"),
    [
        pytest.param(
            database, over, batches, id=f"{name}-{size}",
            marks=[*[pytest.mark.postgres] * (database == "postgres"), *marks],
        )
        for name, (database, over) in KINDS.items()
        for size, batches, marks in (
            [("short", 1, []), ("long", 10, [pytest.mark.long])]
            if name == "pool"
            else [("long", 10, [pytest.mark.long])]
        )
    ],
    indirect=["database"],
)  # fmt: skip
async def test_connections_and_threads_return_to_where_they_were(
    database: Any, fleet: Fleet, over: dict[str, Any], batches: int
) -> None:
    """After cancels, timeouts and errors, in coroutines and threads that use the ORM."""
    over = options(database, over)
    fleet.env["FAULTS_DATABASE"] = json.dumps(over)
    server = await fleet.serve(max_workers=WORKERS)
    client, used = fleet.client(server), Used(server.pid, database)
    ends = await batch(client)  # what is made once is made
    warm = (used.connections(), used.threads())
    for _ in range(batches):
        ends += await batch(client)
    assert set(ends) == STATUSES

    async def back() -> bool:
        # Some come and go for looks at the ledger. What each task left would be many more.
        left = AT_REST["connections"], AT_REST["threads"]
        return used.connections() <= warm[0] + left[0] and used.threads() <= warm[1] + left[1]

    def now() -> str:
        return f"connections, threads: {(used.connections(), used.threads())}, were {warm}"

    await eventually(back, now, every=0.05)
    assert "PoolTimeout" not in server.said()
    report(
        "leaks", database=database.kind, over=over, tasks=ends.total(), ends=ends, warm=warm,
        after=(used.connections(), used.threads()),
    )  # fmt: skip
