"""The SQL of PostgreSQL and of SQLite: the fragments, parameters and values that differ.

Rows go in as one JSON array per statement (`json_to_recordset`, `json_each`): one parameter, one
plan, whatever the size of the batch. The record is called `r`, the table `t`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from datetime import UTC, datetime, tzinfo
from functools import cache
from typing import Any
from uuid import UUID

import msgspec
from django.db.backends.base.base import BaseDatabaseWrapper

from rail_async_tasks.codec.json_numbers import without_exponents
from rail_async_tasks.ledger.locks import POSTGRESQL_NO_WAIT
from rail_async_tasks.ledger.records import Claimed, NewExecution, Outcome
from rail_async_tasks.ledger.rows import in_utc, storable
from rail_async_tasks.models import TaskEvent, TaskExecution
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.states import Status

TABLE = TaskExecution._meta.db_table
EVENTS = TaskEvent._meta.db_table

_decode = msgspec.json.Decoder().decode

# The columns of a snapshot, in the order in which `Dialect.snapshot` reads them.
SNAPSHOT = (
    "id", "name", "status", "queue", "priority", "progress", "progress_message", "result", "error",
    "error_code", "attempts", "retry_count", "max_retries", "cancel_requested", "owner_id",
    "tenant_id", "parent_id", "seq", "step", "created_at", "updated_at", "run_after", "started_at",
    "completed_at", "expires_at", "error_type",
)  # fmt: skip

# The columns of a row that has just been claimed, in the order in which `Dialect.claimed` reads
# them: of the others the claim itself has set the value. Behind them, what the body runs with.
_CLAIMED = (
    "id", "name", "queue", "priority", "attempts", "retry_count", "max_retries",
    "cancel_requested", "owner_id", "tenant_id", "parent_id", "seq", "created_at", "updated_at",
    "language", "traceparent", "tracestate", "arguments",
)  # fmt: skip


def claimed_columns(table: str = "") -> str:
    """Returns the columns of `_CLAIMED` for a statement that calls the table so: `t.`."""
    return ", ".join(f"{table}{column}" for column in _CLAIMED)


class Dialect:
    """PostgreSQL: the database's clock, row locks that are skipped, typed records.

    Rows are locked FOR NO KEY UPDATE, which is all that these updates need: a transaction that has
    inserted a row with a foreign key to an execution holds none of them up.
    """

    encoder = msgspec.json.Encoder()
    # The cast of a JSON column's text.
    json = "::jsonb"
    # A statement that keeps a transaction from waiting for locks.
    no_lock_wait: str | None = POSTGRESQL_NO_WAIT
    # The zone of times that the database keeps without one.
    zone: tzinfo = UTC
    # The guard of every write by an attempt. The status is hidden from the planner, which would
    # walk the index of running rows, with every dead entry that no vacuum has taken, not ids.
    held = "t.id = r.id AND t.token = r.token AND t.status || '' = 'running'"

    def on(self, connection: BaseDatabaseWrapper) -> Dialect:
        """Returns the dialect for this connection: its database may have a TIME_ZONE."""
        return self

    # --- fragments of statements -----------------------------------------------------------------

    def now(self, record: str = "r") -> str:
        """The clock, in a statement whose record has that name."""
        return "now()"

    def later(self, seconds: str, record: str = "r") -> str:
        """The clock and so many seconds."""
        return f"now() + {seconds} * interval '1 second'"

    def records(self, fields: dict[str, str]) -> str:
        """The records that are the statement's parameter: fields and their PostgreSQL types."""
        # The condition is always true. It has the planner expect one record, where by default it
        # expects 100 and would rather scan a small table than look its rows up by id.
        columns = ", ".join(f"{name} {kind}" for name, kind in fields.items())
        return (
            f"(SELECT * FROM json_to_recordset(%s::json) AS j({columns})"
            " WHERE j.id = COALESCE(j.id, j.token)) AS r"
        )

    def as_text(self, time: str) -> str:
        """A time to be returned many times over: the driver is slow at making each an object."""
        return f"{time}::text"

    # --- parameters ------------------------------------------------------------------------------

    def bind_records(self, records: Iterable[Any], clock: str | None) -> list[Any]:
        """Returns the parameters that `records` in a statement takes."""
        return [self.encoder.encode(list(records)).decode()]

    def bind_new(self, new: NewExecution, connection: BaseDatabaseWrapper) -> Any:
        """Returns a new execution as a record."""
        arguments = without_exponents(new.arguments)
        if arguments is new.arguments:
            return new
        return msgspec.structs.replace(new, arguments=arguments)

    def bind_outcome(self, outcome: Outcome) -> Any:
        """Returns an outcome as a record."""
        if outcome.result is None:
            return outcome
        result = without_exponents(outcome.result)
        if result is outcome.result:
            return outcome
        return msgspec.structs.replace(outcome, result=result)

    def clock(self, connection: BaseDatabaseWrapper) -> str | None:
        """Returns "now" as a parameter, where the clock is Python's; else None."""
        return None

    # --- values ----------------------------------------------------------------------------------

    def read_id(self, value: Any) -> UUID:
        return value  # type: ignore[no-any-return]

    def raw_id(self, value: UUID) -> Any:
        """Returns an id as a returned row has it."""
        return value

    def time(self, value: Any) -> datetime:
        """Returns a column's value as an aware time in UTC."""
        time = datetime.fromisoformat(value) if isinstance(value, str) else value
        return in_utc(time, self.zone)

    def read_time(self, value: Any) -> datetime | None:
        """Returns the same of a column that may be NULL."""
        return None if value is None else self.time(value)

    def snapshot(self, row: Sequence[Any]) -> TaskSnapshot:
        """Returns a row that begins with the columns of `SNAPSHOT` as a snapshot."""
        time, read_time, read_id = self.time, self.read_time, self.read_id
        return TaskSnapshot(
            id=read_id(row[0]), name=row[1], status=row[2], queue=row[3], priority=row[4],
            progress=row[5], progress_message=row[6],
            result=None if row[7] is None else _decode(row[7]),
            error=row[8], error_code=row[9], attempts=row[10], retry_count=row[11],
            max_retries=row[12], cancel_requested=bool(row[13]), owner_id=row[14],
            tenant_id=row[15], parent_id=None if row[16] is None else read_id(row[16]),
            seq=row[17], step=row[18], created_at=time(row[19]), updated_at=time(row[20]),
            run_after=read_time(row[21]), started_at=read_time(row[22]),
            completed_at=read_time(row[23]), expires_at=read_time(row[24]), error_type=row[25],
        )  # fmt: skip

    def claimed(self, row: Sequence[Any], token: UUID, *, suspect: bool = False) -> Claimed:
        """Returns a claimed row: see `_CLAIMED`. A row that waited has no result and no end."""
        started_at = self.time(row[13])
        snapshot = TaskSnapshot(
            id=self.read_id(row[0]), name=row[1], status=Status.RUNNING, queue=row[2],
            priority=row[3], attempts=row[4], retry_count=row[5], max_retries=row[6],
            cancel_requested=bool(row[7]), owner_id=row[8], tenant_id=row[9],
            parent_id=None if row[10] is None else self.read_id(row[10]), seq=row[11],
            created_at=self.time(row[12]), updated_at=started_at, started_at=started_at,
        )  # fmt: skip
        return Claimed(snapshot, row[17], token, row[14], suspect, row[15], row[16])


class SQLiteDialect(Dialect):
    """SQLite: Python's clock in Django's own text format, ids as 32 hex digits, one writer."""

    encoder = msgspec.json.Encoder(uuid_format="hex")
    json = ""
    no_lock_wait = None
    # The plus keeps SQLite from walking all running rows by the status's index instead of ids.
    held = "t.id = r.id AND t.token = r.token AND +t.status = 'running'"

    def on(self, connection: BaseDatabaseWrapper) -> Dialect:
        zone = connection.timezone
        return self if zone is None or zone is UTC else _sqlite_in(zone)

    def now(self, record: str = "r") -> str:
        return f"{record}.now"

    def later(self, seconds: str, record: str = "r") -> str:
        # Milliseconds, not microseconds; as text it still sorts with Django's own values.
        return f"strftime('%%Y-%%m-%%d %%H:%%M:%%f', {self.now(record)}, {seconds} || ' seconds')"

    def records(self, fields: dict[str, str]) -> str:
        columns = ", ".join(f"json_extract(value, '$.{name}') AS {name}" for name in fields)
        return f"(SELECT {columns}, c.now AS now FROM json_each(%s), (SELECT %s AS now) AS c) AS r"

    def as_text(self, time: str) -> str:
        return time

    def bind_records(self, records: Iterable[Any], clock: str | None) -> list[Any]:
        return [*super().bind_records(records, clock), clock]

    def bind_new(self, new: NewExecution, connection: BaseDatabaseWrapper) -> Any:
        if new.run_after is None:
            return new
        bound = self._bind_time(connection, new.run_after)
        return msgspec.structs.asdict(new) | {"run_after": bound}

    def bind_outcome(self, outcome: Outcome) -> Any:
        return outcome  # JSON is text here, and stays as it is written

    def clock(self, connection: BaseDatabaseWrapper) -> str | None:
        if connection.timezone is UTC:  # the usual case, at a tenth of the cost
            return str(datetime.now(UTC).replace(tzinfo=None))
        return self._bind_time(connection, datetime.now(UTC))

    def _bind_time(self, connection: BaseDatabaseWrapper, value: datetime) -> str:
        return str(connection.ops.adapt_datetimefield_value(storable(value)))

    def read_id(self, value: Any) -> UUID:
        return UUID(value)

    def raw_id(self, value: UUID) -> Any:
        return value.hex


@cache
def _sqlite_in(zone: tzinfo) -> Dialect:
    dialect = copy(SQLITE)
    dialect.zone = zone
    return dialect


POSTGRESQL, SQLITE = Dialect(), SQLiteDialect()
# By the vendor of Django's connection; other databases have `portable`.
DIALECTS: dict[str, Dialect] = {"postgresql": POSTGRESQL, "sqlite": SQLITE}
