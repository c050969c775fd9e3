"""What the operators' pages read on PostgreSQL: indexes beside many rows, never a whole table."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from rail_async_tasks.dashboard import errors, processes, queues, schedules
from rail_async_tasks.dashboard.query import parse_query
from rail_async_tasks.dashboard.search import find
from rail_async_tasks.rollups.columns import COUNTS
from rail_async_tasks.service import statistics

pytestmark = pytest.mark.parametrize(
    "database", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True
)

BIG = ("rail_async_tasks_execution", "rail_async_tasks_rollup")
PLACE = "shop/tasks.py:20 in f"


def fill() -> None:
    """Stores 30,000 executions, nearly all of them final, and a week of counts of 30 tasks."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO rail_async_tasks_execution (
                id, name, status, queue, priority, arguments, progress, error_type, error_place,
                attempts, retry_count, max_retries, crashes, rerun_on_crash, cancel_requested,
                seq, step, dispatches, created_at, updated_at, started_at, completed_at,
                runtime_id, token)
            SELECT gen_random_uuid(), 'task.' || n % 40, s, 'queue.' || n % 7, 0, '{}', 100,
                CASE WHEN s = 'failed' THEN 'Error' END,
                CASE WHEN s = 'failed' THEN 'shop/tasks.py:' || n % 900 || ' in f' END,
                1, 0, 3, 0, true, false, 3, 0, 0, at, at,
                CASE WHEN s <> 'pending' THEN at END,
                CASE WHEN s NOT IN ('pending', 'running') THEN at END,
                CASE WHEN s = 'running' THEN gen_random_uuid() END,
                CASE WHEN s = 'running' THEN gen_random_uuid() END
            FROM (SELECT n, now() - n * interval '1 s' AS at,
                    CASE WHEN n % 20 = 0 THEN 'failed' WHEN n % 1000 = 1 THEN 'pending'
                         WHEN n % 5000 = 2 THEN 'running' ELSE 'completed' END AS s
                  FROM generate_series(1, 30000) AS n) AS made
            """
        )
        columns = ", ".join(COUNTS)
        numbers = ", ".join("1" for _ in COUNTS)
        now = int(time.time())
        for span, count in ((60, 180), (600, 288), (3600, 360)):
            cursor.execute(
                f"""
                INSERT INTO rail_async_tasks_rollup (id, span, start, name, queue, {columns})
                SELECT gen_random_uuid(), {span}, {now // span * span} - n * {span},
                    'task.' || t, 'queue.' || t %% 3, {numbers}
                FROM generate_series(0, {count}) AS n, generate_series(1, 30) AS t
                """,
                [],
            )
        for table in BIG:
            cursor.execute(f"ANALYZE {table}")


def scans(call: Callable[[], object]) -> list[str]:
    """Returns the statements of the call that scan one of the big tables as a whole."""
    with CaptureQueriesContext(connection) as captured:
        call()
    found = []
    for it in captured:
        sql = it["sql"]
        if not sql.startswith("SELECT") or not any(table in sql for table in BIG):
            continue
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}")
            (top,) = cursor.fetchone()[0]
        if any(it["Node Type"] == "Seq Scan" and it["Relation Name"] in BIG for it in nodes(top)):
            found.append(sql)
    return found


def nodes(part: Any) -> Iterator[dict[str, Any]]:
    """Yields the nodes of a plan."""
    node = part.get("Plan", part)
    yield node
    for child in node.get("Plans", ()):
        yield from nodes(child)


def test_no_page_scans_a_big_table(database: object) -> None:
    """Queues, processes, schedules, errors with the filter of a group, charts, rates."""
    fill()
    calls: dict[str, Callable[[], Any]] = {
        "queues": queues.rows,
        "processes": lambda: processes.processes("default"),
        "schedules": lambda: schedules.schedules("default"),
        "errors": lambda: errors.shown("default", statistics.errors() or []),
        "group": lambda: find("default", parse_query(f'state:failed error:Error place:"{PLACE}"')),
        "hour": lambda: statistics.charts(statistics.WINDOWS["hour"], "queue"),
        "day": lambda: statistics.charts(statistics.WINDOWS["day"], "name"),
        "week": lambda: statistics.charts(statistics.WINDOWS["week"], "name", queue="queue.1"),
    }
    assert {name: scans(call) for name, call in calls.items()} == {key: [] for key in calls}


def test_the_tasks_of_a_place_come_from_its_index(database: object) -> None:
    """However many others have failed since."""
    fill()
    with CaptureQueriesContext(connection) as captured:
        found = find("default", parse_query(f'state:failed error:Error place:"{PLACE}"'))
    assert found.searched_to is None
    assert len({it.id for it in found.tasks}) == len(found.tasks) > 0
    assert all(isinstance(it.id, UUID) for it in found.tasks)
    (sql,) = [it["sql"] for it in captured if "error_place" in it["sql"]]
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {sql}")
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "rat_error_place" in plan, plan
