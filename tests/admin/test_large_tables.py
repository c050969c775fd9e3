"""The admin on a large table: no count, no look at every row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from rail_async_tasks.admin import read_only
from tests.support.databases import default_database, empty_tables, forget_connections

LIST = "/admin/rail_async_tasks/taskexecution/"
ROWS = 40_000

pytestmark = [pytest.mark.postgres, pytest.mark.urls("tests.admin.urls")]

FILL = f"""
    INSERT INTO rail_async_tasks_execution (
        id, name, status, queue, priority, arguments, progress, attempts, retry_count, max_retries,
        crashes, dispatches, rerun_on_crash, cancel_requested, owner_id, seq, step, created_at,
        updated_at, completed_at, expires_at)
    SELECT
        ('018f0000-' || lpad(to_hex(n / 65536), 4, '0') || '-7' || lpad(to_hex(n % 4096), 3, '0')
            || '-8000-' || lpad(to_hex(n), 12, '0'))::uuid,
        'shop.task' || n % 50, CASE WHEN n % 400 = 0 THEN 'failed' ELSE 'completed' END,
        'default', 0, '{{"number": 1}}', 100, 1, 0, 3, 0, 0, true, false, (n % 3000)::text, 3, 0,
        now(), now(), now(), now() + interval '1 day'
    FROM generate_series(1, {ROWS}) AS n;
"""


@pytest.fixture(scope="module")
def client(postgres_config: dict[str, Any], django_db_blocker: Any) -> Iterator[Client]:
    """Filled once: the tests only read."""
    with django_db_blocker.unblock(), default_database(postgres_config):
        try:
            with connection.cursor() as cursor:
                cursor.execute(FILL)
                cursor.execute("ANALYZE rail_async_tasks_execution")
            client = Client()
            client.force_login(User.objects.create_superuser("ops"))
            yield client
        finally:
            forget_connections()
            empty_tables()


def test_lists_searches_and_pages(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each by an index, in a bounded number of queries, and without a count of the table."""
    monkeypatch.setattr(read_only, "MOST_COMPARED", 2_000)
    newest = f"018f0000-0000-7{ROWS % 4096:03x}-8000-{ROWS:012x}"
    queries: dict[str, dict[str, str]] = {
        "all": {}, "a page": {"p": "5"}, "a status": {"status": "failed"}, "an owner": {"q": "17"},
        "an id": {"q": newest}, "a beginning": {"q": newest[:13]}, "a name": {"q": "task7"},
        "a queue": {"queue": "low"}, "the last hour": {"created": "hour"},
    }  # fmt: skip
    explained: dict[str, list[str]] = {}
    for name, query in queries.items():
        with CaptureQueriesContext(connection) as captured:
            response = client.get(LIST, query)
        assert response.status_code == 200, name
        ours = [it["sql"] for it in captured if "rail_async_tasks_execution" in it["sql"]]
        assert len(ours) <= 5, (name, ours)
        assert len(captured) <= 9, name
        assert not [sql for sql in ours if "COUNT(" in sql.upper()], name
        for sql in ours:
            with connection.cursor() as cursor:
                cursor.execute("EXPLAIN " + sql)
                explained.setdefault(name, []).append("\n".join(it[0] for it in cursor.fetchall()))
    slow = {name: plan for name, plans in explained.items() for plan in plans if "Seq Scan" in plan}
    assert slow == {}
    assert len(client.get(LIST, {"status": "failed"}).context["cl"].result_list) == 50
    assert client.get(LIST).context["cl"].result_count == 1000


def test_a_tasks_page(client: Client) -> None:
    """A row by its key, and its audit."""
    newest = f"018f0000-0000-7{ROWS % 4096:03x}-8000-{ROWS:012x}"
    with CaptureQueriesContext(connection) as captured:
        response = client.get(f"{LIST}{newest}/change/")
    assert response.status_code == 200
    assert len(captured) <= 6
