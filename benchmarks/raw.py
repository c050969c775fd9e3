"""The table of executions through nothing but the database's own driver: the machine's limit."""

from __future__ import annotations

import os
import sqlite3
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

TABLE = "rail_async_tasks_execution"
BATCH = 500  # as many as the package itself writes at once

_INSERT = (
    "id", "name", "status", "queue", "priority", "arguments", "progress", "attempts",
    "retry_count", "max_retries", "crashes", "cancel_requested", "seq", "step", "runtime_id",
    "token", "created_at", "updated_at", "started_at", "rerun_on_crash",
    "dispatches",
)  # fmt: skip


_TYPES = (
    "uuid", "text", "text", "text", "int", "jsonb", "int", "int", "int", "int", "int", "bool",
    "int", "int", "uuid", "uuid", "timestamptz", "timestamptz", "timestamptz", "bool",
    "int",
)  # fmt: skip


class Raw:
    """One connection to the sample's database, and the two statements of a no-op's life."""

    def __init__(self) -> None:
        kind, url = os.environ["TEST_DATABASE"], os.environ["TEST_DATABASE_URL"]
        self.connection: Any
        if kind == "postgres":
            self.connection = psycopg.connect(url, autocommit=True)
            mark, self._begin = "%s", "BEGIN"
        else:
            path = url.removeprefix("sqlite:///")
            self.connection = sqlite3.connect(path, isolation_level=None)
            self.connection.execute("PRAGMA journal_mode = WAL")
            self.connection.execute("PRAGMA synchronous = NORMAL")
            mark, self._begin = "?", "BEGIN IMMEDIATE"
        self._native = kind == "postgres"
        self.cursor = self.connection.cursor()
        marks = ", ".join(mark for _ in _INSERT)
        self.insert = f"INSERT INTO {TABLE} ({', '.join(_INSERT)}) VALUES ({marks})"
        self._finish = (
            f"UPDATE {TABLE} SET status = 'completed', seq = seq + 1, progress = 100,"
            f" result = {mark}, completed_at = {mark}, expires_at = {mark}, updated_at = {mark},"
            f" runtime_id = NULL WHERE id = {mark} AND token = {mark} AND status = 'running'"
        )

    def insert_many(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """All in one transaction, in the quickest way that the database has."""
        with self.transaction():
            if self._native:
                arrays = ", ".join(f"%s::{kind}[]" for kind in _TYPES)
                self.cursor.execute(
                    f"INSERT INTO {TABLE} ({', '.join(_INSERT)}) SELECT * FROM unnest({arrays})",
                    [list(column) for column in zip(*rows, strict=True)],
                )
            else:
                self.cursor.executemany(self.insert, rows)
            assert self.cursor.rowcount == len(rows)

    def finish_many(self, outcomes: Sequence[tuple[Any, ...]]) -> None:
        """The same for the end of these rows."""
        with self.transaction():
            if self._native:
                self.cursor.execute(
                    f"UPDATE {TABLE} AS t SET status = 'completed', seq = seq + 1, progress = 100,"
                    " result = r.result, completed_at = r.at, expires_at = r.expiry,"
                    " updated_at = r.at, runtime_id = NULL FROM unnest(%s::jsonb[],"
                    " %s::timestamptz[], %s::timestamptz[], %s::uuid[], %s::uuid[])"
                    " AS r(result, at, expiry, id, token)"
                    " WHERE t.id = r.id AND t.token = r.token AND t.status = 'running'",
                    [[row[i] for row in outcomes] for i in (0, 1, 2, 4, 5)],
                )
            else:
                self.cursor.executemany(self._finish, outcomes)
            assert self.cursor.rowcount == len(outcomes)

    def new_rows(self, count: int) -> list[tuple[Any, ...]]:
        """Rows of no-ops that have started, as `insert` takes them."""
        now, runtime = self._time(), self._id()
        return [
            (self._id(), "noop", "running", "default", 0, "{}", 0, 1, 0, 3, 0, False, 2, 0,
             runtime, self._id(), now, now, now, True, 0)
            for _ in range(count)
        ]  # fmt: skip

    def outcomes(self, rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Returns the parameters of `finish_many` for these rows."""
        now, expiry = self._time(), self._time(timedelta(days=1))
        return [("null", now, expiry, now, row[0], row[15]) for row in rows]

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self.cursor.execute(self._begin)
        yield
        self.cursor.execute("COMMIT")

    def _id(self) -> Any:
        return uuid.uuid4() if self._native else uuid.uuid4().hex

    def _time(self, later: timedelta = timedelta(0)) -> Any:
        at = datetime.now(UTC) + later
        return at if self._native else at.replace(tzinfo=None).isoformat(" ")
