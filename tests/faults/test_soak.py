"""A steady load: memory, connections, threads, files and asyncio tasks stay where they were."""

from __future__ import annotations

from typing import Any

from tests.faults.fleet import Fleet, forms, on
from tests.faults.load import FIGURES, soak
from tests.faults.soak import sample_every
from tests.support.measures import report


@forms("seconds rate", on("postgres", 3, 20), on("postgres", 600, 50, long=True))
async def test_what_a_server_uses_stays_flat(
    database: Any, fleet: Fleet, seconds: float, rate: float
) -> None:
    """So many tasks a second of every kind, with streams that come and go; each ends as it must."""
    every = sample_every(seconds)
    outcome = await soak(fleet, database, seconds=seconds, rate=rate, every=every)
    assert outcome.problems == [], outcome.table()
    assert outcome.started > seconds * rate
    report(
        "soak", database=database.kind, seconds=seconds, tasks=outcome.started, ends=outcome.ends,
        streams=outcome.streams, **{what: outcome.figures(what) for what in FIGURES},
    )  # fmt: skip
