"""A queue that is paused while two processes work on it: none of it starts after two seconds."""

from __future__ import annotations

from functools import partial
from typing import Any

from tests.faults.fleet import Fleet, forms, on
from tests.support.pauses import assert_paused_under_load, leave


@forms(
    "backend count",
    on("postgres", "asyncio", 150),
    on("postgres", "asyncio", 1000, long=True),
    on("postgres", "thread", 1000, long=True),
    on("sqlite", "asyncio", 1000, long=True),
    on("sqlite", "thread", 1000, long=True),
)
async def test_pause_under_load(database: Any, fleet: Fleet, backend: str, count: int) -> None:
    """Also where the process that pauses dies at once; after the resume everything runs, once."""
    # Bodies so long that most of them wait still where a slow machine takes long to pause.
    slots = {"asyncio": {"max_concurrency": 2}, "thread": {"max_workers": 2}}[backend]
    settings = {"backend": backend, "lease_seconds": 15, **slots}
    await fleet.serve_many(2, **settings)
    rows = partial(leave, "faults.once", count, seconds=0.2)
    await assert_paused_under_load(fleet.env, settings, rows, seconds=120)
