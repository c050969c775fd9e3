"""Locks that a test holds on a second connection, until it lets go of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import psycopg
from django.db import connections, transaction

from tests.support.databases import database_url
from tests.support.waiting import TIMEOUT


@contextmanager
def a_transaction(work: Callable[[], Any]) -> Iterator[threading.Event]:
    """Another thread does `work` in a transaction that is open until the event, or the end."""
    begun, over = threading.Event(), threading.Event()

    def run() -> None:
        try:
            with transaction.atomic():
                work()
                begun.set()
                over.wait(2 * TIMEOUT)
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert begun.wait(TIMEOUT)
        yield over
    finally:
        over.set()
        thread.join(TIMEOUT)


@contextmanager
def locked(*ids: UUID, mode: str = "UPDATE") -> Iterator[psycopg.Connection[Any]]:
    """The rows are locked by another connection; `rollback` lets go of them."""
    with psycopg.connect(database_url()) as other:
        other.execute(
            "SELECT 1 FROM rail_async_tasks_execution WHERE id = ANY(%s)"
            f" FOR {mode}".encode(),
            [list(ids)],
        )  # fmt: skip
        yield other
        other.rollback()


@contextmanager
def rows_locked(*ids: UUID) -> Iterator[threading.Event]:
    """The same through Django, on any server: the rows of tasks are locked until the event."""
    from rail_async_tasks.models import TaskExecution

    rows = TaskExecution.objects.filter(id__in=ids).select_for_update()
    with a_transaction(lambda: list(rows)) as over:
        yield over
