"""What a runtime without work asks of its database, by a clock that the test turns."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db.backends.signals import connection_created

from rail_async_tasks.db_connections import DriverCursor
from rail_async_tasks.hosting import process as host
from rail_async_tasks.runtime.runtime import Runtime
from tests.support.clock import FakeClock
from tests.support.runtimes import Configure, on_databases
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("ends_cleanly")


@contextmanager
def statements_kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Keeps the statements of connections that are opened meanwhile, in any thread."""
    kept: list[str] = []
    execute_raw = DriverCursor.execute

    def execute(self: DriverCursor, statement: str, params: Any = None) -> None:
        kept.append(statement)
        execute_raw(self, statement, params)

    def keep(run: Any, sql: str, *args: Any) -> Any:
        kept.append(sql)
        return run(sql, *args)

    def wrap(connection: Any, **_: Any) -> None:
        connection.execute_wrappers.append(keep)

    monkeypatch.setattr(DriverCursor, "execute", execute)
    connection_created.connect(wrap)
    try:
        yield kept
    finally:
        connection_created.disconnect(wrap)


async def pass_time(clock: FakeClock, runtime: Runtime, seconds: int) -> None:
    """Moves the clock second by second, and lets the writers answer after each."""
    writers = runtime.ledger.writers()
    assert writers is not None
    for _ in range(seconds):
        await clock.advance(1.0)
        await eventually(lambda: not any(it.backlog for it in writers.states()), every=0.001)
        await clock.settle()


@on_databases
async def test_a_minute_without_work_is_a_few_statements(
    store: str, configure: Configure, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Surveys, most of all. The lease goes by the system's clock and is left out.

    A minute holds one or two of the rounds that come once a minute, more or less by chance.
    """
    with statements_kept(monkeypatch) as kept:
        runtime = await host.aruntime()
        await eventually(lambda: runtime.holding)
        await pass_time(clock, runtime, 20)  # it becomes quiet
        before = len(kept)
        await pass_time(clock, runtime, 60)
    found = kept[before:]
    surveys = [it for it in found if "paused_at IS NOT NULL" in it and "run_after" in it]
    assert 5 <= len(surveys) <= 31  # every other second at most; on PostgreSQL that hears, fewer
    lease = ("renewed_at", "lapses_at")
    others = [it for it in found if it not in surveys and not any(name in it for name in lease)]
    kinds = Counter(re.sub(r"\d+", "", it) for it in others)
    assert kinds.total() <= 45, kinds
    assert max(kinds.values()) <= 6, kinds  # three lengths of rollups in each of two rounds


@pytest.mark.parametrize("store", ["memory"], indirect=True)
async def test_rows_in_memory_are_left_alone(
    store: str, configure: Configure, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other process can leave any."""
    runtime = await host.aruntime()
    await clock.advance(20)
    surveys = 0
    survey = runtime.ledger.survey

    async def counted(queues: Any) -> Any:
        nonlocal surveys
        surveys += 1
        return await survey(queues)

    monkeypatch.setattr(runtime.ledger, "survey", counted)
    await clock.advance(300)
    assert surveys <= 6
