"""Reading a page of a filter: what fits, in which order, and how little is read for it."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from rail_async_tasks.dashboard import search
from rail_async_tasks.dashboard.counters import read_counters
from rail_async_tasks.dashboard.query import Query, parse_query
from rail_async_tasks.dashboard.search import Found, branches, count_newer, find, rows_of
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.snapshot import TaskSnapshot

Row = Callable[..., TaskExecution]
POSTGRES = pytest.mark.parametrize(
    "database", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True
)
LOWEST = UUID(int=0)


def ids(text: str, **options: Any) -> list[UUID]:
    return [it.id for it in find("default", parse_query(text), **options).tasks]


def test_each_qualifier(database: object, row: Row) -> None:
    """It finds the tasks that it names and no other."""
    row("completed", age=10)
    task = row(
        "failed", age=7200, name="reports.Monthly", queue="reports", owner_id="7",
        error="no 'currency'", error_type="KeyError", error_code="exception",
        parent_id=UUID(int=5), arguments={"dataset": "Überblick 42"},
    )  # fmt: skip
    for text in (
        "state:failed", "queue:reports", "owner:7", "name:monthly", "error:KeyError",
        "error:exception", "age:>1h", f"parent:{UUID(int=5)}", f"id:{task.id}", str(task.id),
        f"id:{str(task.id)[:13]}", "currency", "MONTHLY", "currency reports", '"dataset"',
        "state:failed,cancelled owner:7,8 queue:reports age:>1h age:<3h currency",
    ):  # fmt: skip
        assert ids(text) == [task.id], text
    for text in (
        "state:cancelled", "queue:report", "owner:70", "name:weekly", "error:ValueError",
        "age:>3h", "currency nothing", "age:<1h owner:7", "100%", "_urrency",
    ):  # fmt: skip
        assert ids(text) == [], text


def test_newest_first_and_in_pages(database: object, row: Row) -> None:
    """Of several states, too, each of which is read by itself."""
    states = ["failed", "cancelled", "completed"]
    tasks = [row(states[age % 3], age=age) for age in range(30)]
    expected = [it.id for it in tasks if it.status != "completed"]
    query, found, after = parse_query("state:failed,cancelled"), [], None
    while True:
        page = find("default", query, after=after, limit=7)
        found += [it.id for it in page.tasks]
        if page.after is None:
            break
        after = page.after
    assert found == expected
    assert page.searched_to is None


def later_of(query: Query, page: Found) -> list[TaskSnapshot]:
    """The tasks of the windows that come after this page."""
    found = []
    while page.searched_to is not None:
        page = find("default", query, after=page.searched_to, window=20)
        found += page.tasks
    return found


@pytest.mark.parametrize("text", ["name:rare", "rare", "state:completed name:rare", "owner:1 rare"])
def test_no_more_than_a_window_is_compared(database: object, row: Row, text: str) -> None:
    """A search that has not found a page says how far it came, and goes on from there."""
    rare = [row("completed", age=age, name="rare", owner_id="1") for age in (200, 50)]
    for age in range(60, 160, 2):
        row("completed", age=age, owner_id="1")
    query = parse_query(text)
    page = find("default", query, window=20)
    assert [it.id for it in page.tasks] == [rare[1].id]
    assert page.searched_to is not None
    found = later_of(query, page)
    assert [it.id for it in found] == [rare[0].id]


@pytest.mark.parametrize("more", ["rare", "name:rare", "queue:rare"])
def test_at_a_place_no_more_than_a_window_is_compared(
    database: object, row: Row, more: str
) -> None:
    """A place alone is read as far as it goes: a retry of its group needs all."""
    there = {"error_type": "KeyError", "error_place": "shop/tasks.py:1 in a"}
    rare = row("failed", age=200, name="rare", queue="rare", **there)
    for age in range(60, 160, 2):
        row("failed", age=age, **there)
        row("failed", age=age, name="rare", error_type="KeyError", error_place="b.py:1 in b")
    place = 'error:KeyError place:"shop/tasks.py:1 in a"'
    page = find("default", parse_query(place), window=20, limit=100)
    assert (len(page.tasks), page.searched_to) == (51, None)
    query = parse_query(f"{place} {more}")
    page = find("default", query, window=20)
    assert page.tasks == []
    found = later_of(query, page)
    assert [it.id for it in found] == [rare.id]


def test_one_state_is_not_shown_further_back_than_another(database: object, row: Row) -> None:
    """Where the window of one ends early, older tasks of the other wait for the next page."""
    old = row("cancelled", age=300, name="rare")
    for age in range(100, 200, 2):
        row("failed", age=age)
    deep = row("failed", age=250, name="rare")
    query = parse_query("state:failed,cancelled name:rare")
    page = find("default", query, window=20)
    assert page.tasks == []
    found = later_of(query, page)
    assert [it.id for it in found] == [deep.id, old.id]


def test_new_tasks_are_counted_up_to_a_limit(database: object, row: Row) -> None:
    """Those that fit, newer than the first one shown."""
    first = row("pending", age=100)
    for age in range(10):
        row("failed", age=age, owner_id="1")
    count = lambda text, most: count_newer("default", parse_query(text), first.id, most)  # noqa: E731
    assert count("", 100) == 10
    assert count("state:failed owner:1", 100) == 10
    assert count("state:pending", 100) == 0
    assert count("", 4) == 4


def test_expired_tasks_are_hidden(database: object, row: Row) -> None:
    """As from every list."""
    row("completed", expires_at="2020-01-01T00:00:00Z")
    assert ids("") == []


# --- how PostgreSQL finds them --------------------------------------------------------------------


def plan(sql: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SET enable_seqscan = on")
        cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}")
        return json.dumps(cursor.fetchone()[0])


def fill(rows: int) -> None:
    """Stores so many finished tasks, and a few unfinished ones, in one statement."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO rail_async_tasks_execution (
                id, name, status, queue, priority, arguments, progress, error_type, error,
                attempts, retry_count, max_retries, crashes, rerun_on_crash, cancel_requested,
                owner_id, seq, step, dispatches, created_at, updated_at, started_at, completed_at,
                runtime_id, token)
            SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7000'
                    || '8' || lpad(to_hex(n), 15, '0'))::uuid,
                'task.' || n %% 40, s, 'queue.' || n %% 7, 0, '{"dataset": 42}', 100,
                CASE WHEN s = 'failed' THEN 'Error' || n %% 9 END,
                CASE WHEN s = 'failed' THEN 'It did not work' END,
                1, 0, 3, 0, true, false, (n %% 500)::text, 3, 0, 0, at, at,
                CASE WHEN s <> 'pending' THEN at END,
                CASE WHEN s NOT IN ('pending', 'running') THEN at + interval '1 s' END,
                CASE WHEN s = 'running' THEN gen_random_uuid() END,
                CASE WHEN s = 'running' THEN gen_random_uuid() END
            FROM (SELECT n, now() - n * interval '1 s' AS at,
                    CASE WHEN n %% 20 = 0 THEN 'failed' WHEN n %% 33 = 0 THEN 'cancelled'
                         WHEN n %% 1000 = 1 THEN 'pending' WHEN n %% 5000 = 2 THEN 'running'
                         ELSE 'completed' END AS s
                  FROM generate_series(1, %s) AS n) AS made
            """,
            [rows],
        )
        cursor.execute("ANALYZE rail_async_tasks_execution")


INDEXES = {
    "": "rail_async_tasks_execution_pkey",
    # Either has the failed rows; which one is cheaper depends on how many there are.
    "state:failed": "rat_failed|rat_status_newest",
    "state:pending": "rat_status_newest",
    "error:Error3": "rat_failed|rat_status_newest",
    "owner:77": "rat_owner_newest",
}
BOUNDED = (
    "name:task.7",
    "name:nothing",
    "queue:queue.3",
    "queue:none",
    "nothing",
    "age:>1h nothing",
)


def sql_of(text: str) -> str:
    query = parse_query(text)
    rows = rows_of("default", query, branches(query)[0])[: search.PAGE + 1]
    sql, parameters = rows.query.sql_with_params()
    with connection.cursor() as cursor:
        return str(cursor.mogrify(sql, parameters))


@POSTGRES
def test_postgresql_uses_an_index_for_the_list(database: object) -> None:
    """In the order of the list, so that it stops after a page; never by a scan of the table."""
    fill(20_000)
    for text, index in INDEXES.items():
        found = plan(sql_of(text))
        assert re.search(index, found), text
        assert "Seq Scan" not in found, text
        if text.startswith("state:") or not text:  # of an owner's few it may sort all
            assert '"Sort"' not in found, text


@POSTGRES
def test_postgresql_reads_a_window_of_ids(database: object, monkeypatch: Any) -> None:
    """The end of the window comes from an index alone, and bounds the rows that are compared."""
    fill(20_000)
    monkeypatch.setattr(search, "WINDOW", 1000)
    monkeypatch.setattr(search, "SMALL_WINDOW", 1000)
    for text in BOUNDED:
        page = find("default", parse_query(text))
        assert len(page.tasks) == search.PAGE or page.searched_to is not None, text


@POSTGRES
@pytest.mark.parametrize("text", ["error:none", "owner:77 nothing", "state:failed name:nothing"])
def test_postgresql_compares_no_row_between_those_of_a_window(
    database: object, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """The rows of a state or an owner lie scattered: of all in between it reads none."""
    fill(20_000)
    monkeypatch.setattr(search, "SMALL_WINDOW", 20)
    with CaptureQueriesContext(connection) as queries:
        find("default", parse_query(text))
    reads = [it["sql"] for it in queries if '"error_type"' in it["sql"]]
    assert reads
    for sql in reads:
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}")
            (((explained,),),) = (cursor.fetchall(),)
        # A window of 20, or all 40 that an owner has; by the window's end it would be hundreds.
        assert removed(explained[0]["Plan"]) <= 40, sql


def removed(node: dict[str, Any]) -> float:
    """The rows that a plan has read for nothing."""
    here = node.get("Rows Removed by Filter", 0) * node["Actual Loops"]
    return float(here + sum(map(removed, node.get("Plans", ()))))


@POSTGRES
def test_postgresql_counts_by_indexes(
    database: object, django_assert_num_queries: Any, monkeypatch: Any
) -> None:
    """Each counter is one statement over an index, cut at its limit."""
    fill(20_000)
    with django_assert_num_queries(8) as captured:
        read_counters("default")
    tasks = [it["sql"] for it in captured if "rail_async_tasks_execution" in it["sql"]]
    assert len(tasks) == 6
    for sql in tasks:
        found = plan(sql)
        # Of completed tasks, which most are, the newest are found by their ids alone.
        indexes = ("rat_status_newest", "rat_held", "rat_failed", "rail_async_tasks_execution_pkey")
        assert any(index in found for index in indexes), sql
        assert "Seq Scan" not in found, sql
        assert "LIMIT" in sql


@pytest.mark.long
@POSTGRES
def test_a_million_rows(database: object, capsys: pytest.CaptureFixture[str]) -> None:
    """The figures of docs/dashboard.md: list, filters and counters, by the database's own clock."""
    fill(1_000_000)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE rail_async_tasks_execution")
    calls: dict[str, Callable[[], object]] = {
        text: (lambda text=text: find("default", parse_query(text)))
        for text in ("", *list(INDEXES)[1:], *BOUNDED, "state:failed,cancelled owner:7,8")
    }
    calls["counters"] = lambda: read_counters("default")
    calls["new tasks"] = lambda: count_newer("default", parse_query("name:nothing"), LOWEST, 100)
    for name, call in calls.items():
        call()
        times = []
        for _ in range(7):
            began = time.perf_counter()
            call()
            times.append(time.perf_counter() - began)
        with capsys.disabled():
            sys.stdout.write(f"{name or 'all':40} {sorted(times)[3] * 1000:7.1f} ms\n")
