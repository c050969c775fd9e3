"""Fills the table of executions by one statement: what a project has after months, or in a rush."""

from __future__ import annotations

import random
from typing import Final

from django.db import connection

TABLE: Final = "rail_async_tasks_execution"

_ID: Final = """(lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7000'
                || '8' || lpad(to_hex(n + %s), 15, '0'))::uuid"""
_ALL: Final = (
    "id, name, status, queue, priority, arguments, progress, attempts, retry_count, max_retries,"
    " crashes, rerun_on_crash, cancel_requested, seq, step, dispatches, created_at, updated_at"
)


def waiting(count: int) -> None:
    """Stores so many no-ops that are due, a millisecond apart."""
    _execute(
        f"""
        INSERT INTO {TABLE} ({_ALL})
        SELECT {_ID}, 'noop', 'pending', 'default', 0, '{{}}', 0, 0, 0, 3, 0, true, false, 1, 0, 0,
            at, at
        FROM (SELECT n, now() - (%s - n) * interval '1 ms' AS at
              FROM generate_series(1, %s) AS n) AS made""",
        [_salt(), count, count],
    )


def finished(count: int) -> None:
    """Stores so many that have ended, of 500 owners; one in 20 has failed."""
    _execute(
        f"""
        INSERT INTO {TABLE} ({_ALL}, started_at, completed_at, expires_at, owner_id, error,
            error_type, error_code, result)
        SELECT {_ID}, 'task.' || n %% 40, s, 'queue.' || n %% 7, 0, '{{"dataset": 42}}', 100, 1, 0,
            3, 0, true, false, 3, 0, 0, at, at, at, at + interval '1 s', at + interval '1000 d',
            (n %% 500)::text, CASE WHEN s = 'failed' THEN 'It did not work' END,
            CASE WHEN s = 'failed' THEN 'Error' || n %% 9 END,
            CASE WHEN s = 'failed' THEN 'exception' END,
            CASE WHEN s = 'completed' THEN '{{"ok": true}}'::jsonb END
        FROM (SELECT n, now() - (%s - n) * interval '100 ms' AS at,
                CASE WHEN n %% 20 = 0 THEN 'failed' ELSE 'completed' END AS s
              FROM generate_series(1, %s) AS n) AS made""",
        [_salt(), count, count],
    )


def _salt() -> int:
    """Returns what keeps the ids of two fills apart."""
    return random.getrandbits(50)


def _execute(statement: str, parameters: list[int]) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0; SET synchronous_commit = off")
        cursor.execute(statement, parameters)
        # What autovacuum does within minutes.
        cursor.execute(f"VACUUM ANALYZE {TABLE}")
