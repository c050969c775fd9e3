"""Statements that PostgreSQL plans once: prepared under load, planned anew, not on a pooler."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from django.db import ProgrammingError, connections

from rail_async_tasks import db_connections
from rail_async_tasks.db_connections import DriverCursor, Prepared, dedicated_connection
from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.operations import Create
from rail_async_tasks.ledger.records import NewExecution
from rail_async_tasks.ledger.session import WriterSession
from rail_async_tasks.ledger.vendors import batch_on
from rail_async_tasks.models import TaskExecution

pytestmark = pytest.mark.parametrize(
    "database", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True
)

ANSWER = Prepared("SELECT %s::int + 1")
OFTEN = 20


@pytest.fixture
def connection(database: Any) -> Iterator[Any]:
    """A writer's connection, in the place of the thread's own."""
    ordinary = connections["default"]
    yield dedicated_connection("default")
    connections["default"].close()
    connections["default"] = ordinary


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Turns the clock by which plans grow old."""
    now = [1000.0]
    monkeypatch.setattr(db_connections, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def turn(seconds: float) -> None:
        now[0] += seconds

    return turn


def prepared(cursor: DriverCursor) -> list[str]:
    """The statements that the server has prepared on this connection."""
    cursor.execute("SELECT statement FROM pg_prepared_statements")
    return [row[0] for row in cursor.fetchall()]


def ask(cursor: DriverCursor, times: int) -> None:
    for number in range(times):
        cursor.execute(ANSWER, [number])
        assert cursor.fetchone() == (number + 1,)


def test_a_statement_is_prepared_once_it_is_executed_often(
    connection: Any, clock: Callable[[float], None]
) -> None:
    """A few executions, as in an idle process, are not worth the round trip."""
    cursor = DriverCursor(connection)
    ask(cursor, 3)
    assert prepared(cursor) == []
    ask(cursor, OFTEN)
    assert prepared(cursor) == ["SELECT $1::int + 1"]


def test_plans_are_made_anew(connection: Any, clock: Callable[[float], None]) -> None:
    """One for an empty table would scan the table that has grown since."""
    cursor = DriverCursor(connection)
    ask(cursor, OFTEN)
    clock(db_connections.PLAN_SECONDS)
    ask(cursor, 1)
    assert prepared(cursor) == []
    ask(cursor, OFTEN)
    assert len(prepared(cursor)) == 1


def test_nothing_is_prepared_behind_a_pooler(
    connection: Any, clock: Callable[[float], None]
) -> None:
    """`DISABLE_SERVER_SIDE_CURSORS` says that another session may answer the next statement."""
    connection.settings_dict["DISABLE_SERVER_SIDE_CURSORS"] = True
    cursor = DriverCursor(connection)
    ask(cursor, OFTEN)
    assert prepared(cursor) == []


def test_the_statements_of_a_batch_are_prepared(
    connection: Any, clock: Callable[[float], None]
) -> None:
    """Rows go in by one statement, whose answer is a row too."""
    cursor, batch = DriverCursor(connection), batch_on(connection)
    for _ in range(OFTEN):
        (created,) = batch.create(cursor, [row()])
        assert created.run_after is None
    (statement,) = prepared(cursor)
    assert statement.startswith("WITH made AS (")
    assert TaskExecution.objects.count() == OFTEN


def test_a_session_that_was_moved_by_a_pooler_prepares_no_more(
    database: Any, clock: Callable[[float], None]
) -> None:
    """The batch is repeated on another connection, and the next ones are written as they are."""
    session = WriterSession("default", batch_on)
    ordinary = connections["default"]
    try:
        for _ in range(OFTEN):
            session.execute([create()])
        connections["default"].connection.pgconn.exec_(b"DEALLOCATE ALL")  # a session without them
        batch = [create()]
        with pytest.raises(ProgrammingError) as caught:
            session.execute(batch)
        assert session.is_transient(caught.value)
        session.reset()
        for _ in range(OFTEN):
            session.execute(batch)
        with connections["default"].cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_prepared_statements")
            assert cursor.fetchone() == (0,)
        assert TaskExecution.objects.count() == OFTEN + 1
    finally:
        session.reset()
        connections["default"] = ordinary


def test_rows_that_are_there_already_are_returned_as_they_were_created(connection: Any) -> None:
    """A COMMIT whose answer was lost: the batch is repeated, some of its rows are new."""
    cursor, batch = DriverCursor(connection), batch_on(connection)
    rows = [row() for _ in range(3)]
    first = batch.create(cursor, rows[:2])
    again = batch.create(cursor, rows)
    assert again[:2] == first
    assert again[2].at > first[0].at


def create() -> Create:
    return Create(row(), lambda result: None)


def row() -> NewExecution:
    return NewExecution(
        id=new_id(), name="noop", queue="default", priority=0, arguments="{}", max_retries=3,
        runtime_id=uuid4(), token=uuid4(),
    )  # fmt: skip
