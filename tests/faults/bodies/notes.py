"""Notes that bodies write, apart from the package's own tables.

A note is (task, attempt, process, time). The table has no constraint: an attempt that begins twice
is noted twice. `append` writes to a file instead, for the times when there is no database.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, NamedTuple

from django.db import connection

TABLE = "faults_note"


class Note(NamedTuple):
    task: str
    attempt: int
    pid: int
    at: float


def create_table() -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE IF EXISTS {TABLE}")
        cursor.execute(
            f"CREATE TABLE {TABLE}"
            " (task varchar(40), attempt integer, pid integer, at double precision)"
        )


def write(info: Any) -> None:
    """Notes that this attempt has begun, in a transaction of its own."""
    it = info.context.task
    values = [str(it.id), it.attempt, os.getpid(), time.time()]
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {TABLE} VALUES (%s, %s, %s, %s)", values)


def read() -> list[Note]:
    """All of the table's, in the order of time."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT task, attempt, pid, at FROM {TABLE} ORDER BY at")
        return [Note(*row) for row in cursor.fetchall()]


def append(info: Any) -> None:
    """Notes it in the file `FAULTS_NOTES`: one write, whole or not at all."""
    it = info.context.task
    line = f"{it.id} {it.attempt} {os.getpid()} {time.time()}\n"
    file = os.open(os.environ["FAULTS_NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


def read_file(path: str) -> list[Note]:
    words = [line.split() for line in Path(path).read_text().splitlines()]
    return [Note(task, int(attempt), int(pid), float(at)) for task, attempt, pid, at in words]
