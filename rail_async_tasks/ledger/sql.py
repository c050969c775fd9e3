"""The statements of the SQL ledger on PostgreSQL and SQLite, and what differs between the two.

Rows go in as one JSON array per statement (`json_to_recordset`, `json_each`): one parameter, one
plan, whatever the size of the batch. The record is called `r`, the table `t`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import cache
from typing import Any
from uuid import UUID

import msgspec
from django.db.backends.base.base import BaseDatabaseWrapper

from rail_async_tasks.codec.json_numbers import without_exponents
from rail_async_tasks.ledger.locks import POSTGRESQL_NO_WAIT
from rail_async_tasks.ledger.records import NewExecution, Outcome, QueueClaim, Recovery
from rail_async_tasks.ledger.rows import in_utc, storable
from rail_async_tasks.models import TaskEvent, TaskExecution
from rail_async_tasks.snapshot import TaskSnapshot

TABLE = TaskExecution._meta.db_table
EVENTS = TaskEvent._meta.db_table

_decode = msgspec.json.Decoder().decode

# Field of the record -> its PostgreSQL type.
_NEW = {
    "id": "uuid", "name": "text", "queue": "text", "priority": "int", "arguments": "text",
    "max_retries": "int", "rerun_on_crash": "bool", "owner_id": "text", "tenant_id": "text",
    "parent_id": "uuid", "unique_key": "text", "delay": "float8", "run_after": "timestamptz",
    "runtime_id": "uuid", "token": "uuid",
}  # fmt: skip
_OUTCOME = {
    "id": "uuid", "token": "uuid", "status": "text", "progress": "int", "progress_message": "text",
    "result": "text", "error": "text", "error_code": "text", "traceback": "text", "retried": "int",
    "delay": "float8", "ttl": "float8", "callback": "float8",
}  # fmt: skip
_PROGRESS = {
    "id": "uuid", "token": "uuid", "progress": "int", "progress_message": "text", "step": "int",
}  # fmt: skip

_EVENT = {
    "id": "uuid", "execution_id": "uuid", "seq": "int", "from_status": "text",
    "to_status": "text", "actor": "text", "reason": "text", "token": "uuid",
}  # fmt: skip

# The columns of a snapshot, in the order in which `Dialect.snapshot` reads them.
SNAPSHOT = (
    "id", "name", "status", "queue", "priority", "progress", "progress_message", "result", "error",
    "error_code", "attempts", "retry_count", "max_retries", "cancel_requested", "owner_id",
    "tenant_id", "parent_id", "seq", "step", "created_at", "updated_at", "run_after", "started_at",
    "completed_at", "expires_at",
)  # fmt: skip


# What is told of an attempt whose process is gone.
LOST = "The process that ran it was lost."


@dataclass(frozen=True)
class Statements:
    """The texts. `create`, `settle` and `progress` take the records; see `Dialect` for the rest.

    `create_due` is `create` without an answer, for rows whose times are known: all are the clock's.
    `next_due_later` leaves out what is due already, where a row may be locked when it comes due.
    """

    create: str
    create_due: str | None
    settle: str
    progress: str
    claim: str
    claim_suspect: str
    claim_fair: str
    recover: str
    audit: str
    stage: str
    next_due: str
    next_due_later: str | None = None


class Dialect:
    """PostgreSQL: the database's clock, row locks that are skipped, typed records.

    Rows are locked FOR NO KEY UPDATE, which is all that these updates need: a transaction that has
    inserted a row with a foreign key to an execution holds none of them up.
    """

    encoder = msgspec.json.Encoder()
    json = "::jsonb"
    # What keeps a transaction from waiting for locks.
    no_lock_wait: str | None = POSTGRESQL_NO_WAIT

    def __init__(self) -> None:
        self.statements = self._build()

    # --- what differs ----------------------------------------------------------------------------

    now = "now()"
    # The zone of times that the database keeps without one.
    zone: tzinfo = UTC

    def on(self, connection: BaseDatabaseWrapper) -> Dialect:
        """The dialect for this connection: its database may have a TIME_ZONE."""
        return self

    def records(self, fields: dict[str, str]) -> str:
        # The condition is always true. It has the planner expect one record, where by default it
        # expects 100 and would rather scan a small table than look its rows up by id.
        columns = ", ".join(f"{name} {kind}" for name, kind in fields.items())
        return (
            f"(SELECT * FROM json_to_recordset(%s::json) AS j({columns})"
            " WHERE j.id = COALESCE(j.id, j.token)) AS r"
        )

    def now_of(self, record: str) -> str:
        """The clock, in a statement whose record has that name."""
        return self.now

    def later(self, seconds: str, record: str = "r") -> str:
        return f"now() + {seconds} * interval '1 second'"

    def as_text(self, time: str) -> str:
        """A time to be returned many times over: the driver is slow at making each an object."""
        return f"{time}::text"

    def bind_records(self, records: Iterable[Any], clock: str | None) -> list[Any]:
        """The parameters that `records` in a statement takes."""
        return [self.encoder.encode(list(records)).decode()]

    def bind_new(self, new: NewExecution, connection: BaseDatabaseWrapper) -> Any:
        """A new execution as a record."""
        arguments = without_exponents(new.arguments)
        if arguments is new.arguments:
            return new
        return msgspec.structs.replace(new, arguments=arguments)

    def bind_outcome(self, outcome: Outcome) -> Any:
        """An outcome as a record."""
        if outcome.result is None:
            return outcome
        result = without_exponents(outcome.result)
        if result is outcome.result:
            return outcome
        return msgspec.structs.replace(outcome, result=result)

    def clock(self, connection: BaseDatabaseWrapper) -> str | None:
        """What binds as "now", for a database whose clock we take in Python."""
        return None

    def read_id(self, value: Any) -> UUID:
        return value  # type: ignore[no-any-return]

    def raw_id(self, value: UUID) -> Any:
        """An id as a row that comes back has it."""
        return value

    def time(self, value: Any) -> datetime:
        """A column's value as an aware time in UTC."""
        time = datetime.fromisoformat(value) if isinstance(value, str) else value
        return in_utc(time, self.zone)

    def read_time(self, value: Any) -> datetime | None:
        """The same of a column that may be empty."""
        return None if value is None else self.time(value)

    def snapshot(self, row: Sequence[Any]) -> TaskSnapshot:
        """A row that begins with the columns of `SNAPSHOT`."""
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
            completed_at=read_time(row[23]), expires_at=read_time(row[24]),
        )  # fmt: skip

    # --- the statements --------------------------------------------------------------------------

    def _build(self) -> Statements:
        return Statements(
            create=self._create(),
            create_due=None,
            settle=self._settle(),
            progress=self._progress(),
            claim=self._claim("<"),
            claim_suspect=self._claim("> 0 AND crashes >="),
            claim_fair=self._claim_fair(),
            recover=self._recover(),
            audit=self._audit(),
            # By id, and for the planner few, as in `_claim`.
            stage=f"""
                WITH come AS (
                    SELECT id FROM {TABLE} WHERE run_after <= {self.now}
                    FOR NO KEY UPDATE SKIP LOCKED)
                UPDATE {TABLE} AS t SET run_after = NULL
                FROM come WHERE t.id = come.id AND come.id = COALESCE(come.id, t.token)""",
            next_due=f"""
                SELECT extract(epoch FROM min(run_after) - {self.now}) FROM {TABLE}
                WHERE run_after IS NOT NULL""",
            next_due_later=f"""
                SELECT extract(epoch FROM min(run_after) - {self.now}) FROM {TABLE}
                WHERE run_after > {self.now}""",
        )

    def _audit(self) -> str:
        return f"""
            INSERT INTO {EVENTS} (
                id, execution_id, name, owner_id, tenant_id, seq, from_status, to_status,
                attempt, at, actor, reason)
            SELECT r.id, r.execution_id, t.name, t.owner_id, t.tenant_id, r.seq, r.from_status,
                r.to_status, CASE WHEN r.from_status IS NULL THEN 0 ELSE t.attempts END,
                {self.now}, r.actor, r.reason
            FROM {self.records(_EVENT)} JOIN {TABLE} AS t ON t.id = r.execution_id
            WHERE true
            ON CONFLICT DO NOTHING"""

    _progress_sets = "progress = r.progress, step = r.step, progress_message = r.progress_message"

    def _progress(self) -> str:
        # A row that somebody else has locked is left out: the next progress, or the outcome, comes.
        return f"""
            WITH wanted AS (
                SELECT r.* FROM {TABLE} AS t CROSS JOIN {self.records(_PROGRESS)}
                WHERE {self._held}
                ORDER BY t.id FOR NO KEY UPDATE OF t SKIP LOCKED)
            UPDATE {TABLE} AS t SET {self._progress_sets}, updated_at = {self.now}
            FROM wanted AS r WHERE t.id = r.id"""

    def _create(self) -> str:
        due = f"CASE WHEN r.delay IS NULL THEN r.run_after ELSE {self.later('r.delay')} END"
        return f"""
            INSERT INTO {TABLE} (
                id, name, queue, priority, arguments, max_retries, rerun_on_crash, owner_id,
                tenant_id, parent_id, unique_key, runtime_id, token, run_after,
                created_at, updated_at, status, attempts, seq, started_at,
                progress, retry_count, crashes, step, dispatches, cancel_requested)
            SELECT r.id, r.name, r.queue, r.priority, r.arguments{self.json}, r.max_retries,
                r.rerun_on_crash, r.owner_id, r.tenant_id, r.parent_id, r.unique_key,
                r.runtime_id, r.token, {due},
                {self.now}, {self.now},
                CASE WHEN r.token IS NULL THEN 'pending' ELSE 'running' END,
                CASE WHEN r.token IS NULL THEN 0 ELSE 1 END,
                CASE WHEN r.token IS NULL THEN 1 ELSE 2 END,
                CASE WHEN r.token IS NULL THEN NULL ELSE {self.now} END,
                0, 0, 0, 0, 0, false
            FROM {self.records(_NEW)}
            WHERE true
            ON CONFLICT (id) DO NOTHING
            RETURNING id, {self.as_text("created_at")}, {self.as_text("run_after")}"""

    # The guard of every write by an attempt. The status is hidden from the planner, which would
    # walk the index of running rows, with every dead entry that no vacuum has taken, not ids.
    _held = "t.id = r.id AND t.token = r.token AND t.status || '' = 'running'"

    # The rule of `states.settle`, where the row's own flag is known.
    _settled = (
        "CASE WHEN t.cancel_requested AND r.status <> 'completed' THEN 'cancelled'"
        " ELSE r.status END"
    )

    def _settle_sets(self, settled: str) -> str:
        final = f"{settled} <> 'retrying'"
        return f"""
            status = {settled}, seq = t.seq + 1, step = 0,
            progress = CASE WHEN {settled} = 'completed' THEN 100 ELSE r.progress END,
            progress_message = r.progress_message,
            result = r.result{self.json},
            error = CASE WHEN {settled} = 'cancelled' THEN NULL ELSE r.error END,
            error_code = CASE WHEN {settled} = 'cancelled' THEN 'cancelled' ELSE r.error_code END,
            traceback = r.traceback,
            retry_count = t.retry_count
                + CASE WHEN {settled} = 'retrying' THEN r.retried ELSE 0 END,
            run_after = CASE WHEN {settled} = 'retrying' AND r.delay > 0
                THEN {self.later("r.delay")} END,
            completed_at = CASE WHEN {final} THEN {self.now} END,
            expires_at = CASE WHEN {final} AND r.ttl IS NOT NULL THEN {self.later("r.ttl")} END,
            callback_at = CASE WHEN {settled} = 'failed' AND r.callback IS NOT NULL
                THEN {self.later("r.callback")} END,
            unique_key = CASE WHEN {final} THEN NULL ELSE t.unique_key END,
            runtime_id = NULL, updated_at = {self.now}"""

    def _settle(self) -> str:
        # Locked in the order of ids, so that two processes never wait for each other in a ring;
        # a row that somebody else has locked is left out, and settled apart (`orm.py`).
        return f"""
            WITH wanted AS (
                SELECT r.*, {self._settled} AS settled
                FROM {TABLE} AS t CROSS JOIN {self.records(_OUTCOME)}
                WHERE {self._held}
                ORDER BY t.id FOR NO KEY UPDATE OF t SKIP LOCKED)
            UPDATE {TABLE} AS t SET {self._settle_sets("r.settled")}
            FROM wanted AS r WHERE t.id = r.id
            RETURNING t.id, t.status, t.seq, {self.as_text("t.updated_at")},
                {self.as_text("t.run_after")}, {self.as_text("t.expires_at")},
                t.cancel_requested"""

    def _claim_sets(self) -> str:
        return f"""
            status = 'running', attempts = t.attempts + 1, seq = t.seq + 1, step = 0, progress = 0,
            progress_message = NULL, error = NULL, error_code = NULL, traceback = NULL,
            runtime_id = %s, token = %s,
            started_at = {self.now}, updated_at = {self.now}, run_after = NULL,
            dispatched_at = NULL"""

    def _claim(self, compared: str) -> str:
        columns = ", ".join(f"t.{column}" for column in SNAPSHOT)
        return f"""
            WITH due AS (
                SELECT id FROM {TABLE}
                WHERE queue = %s AND status IN ('pending', 'retrying') AND run_after IS NULL
                    AND name = ANY(%s) AND crashes {compared} %s
                ORDER BY priority DESC, id LIMIT %s FOR NO KEY UPDATE SKIP LOCKED)
            UPDATE {TABLE} AS t SET {self._claim_sets()}
            FROM due WHERE t.id = due.id AND due.id = COALESCE(due.id, t.token)
            RETURNING {columns}, t.arguments"""

    def claim_params(
        self, lane: QueueClaim, runtime_id: UUID, token: UUID, clock: str | None
    ) -> list[Any]:
        return [lane.queue, list(lane.names), lane.crashes, lane.limit, runtime_id, token]

    # The owners who have due rows in a queue: one step along the index for each, not a row each.
    _is_due = "status IN ('pending', 'retrying') AND run_after IS NULL"
    _owners = f"""
        owners AS (
            SELECT * FROM (
                SELECT COALESCE(owner_id, '') AS owner FROM {TABLE}
                WHERE queue = %s AND {_is_due} ORDER BY COALESCE(owner_id, '') LIMIT 1) AS first
            UNION ALL
            SELECT (
                SELECT COALESCE(owner_id, '') FROM {TABLE}
                WHERE queue = %s AND {_is_due} AND COALESCE(owner_id, '') > owners.owner
                ORDER BY COALESCE(owner_id, '') LIMIT 1)
            FROM owners WHERE owners.owner IS NOT NULL)"""

    def _claim_fair(self) -> str:
        # Of what matters most: each owner's first rows, numbered. Who has few running, counting
        # these, goes first.
        columns = ", ".join(f"t.{column}" for column in SNAPSHOT)
        return f"""
            WITH RECURSIVE {self._owners},
            wanted AS (SELECT %s::text AS queue, %s::text[] AS names, %s::int AS crashes,
                %s::jsonb AS running, %s::int AS most),
            top AS (
                SELECT t.priority FROM {TABLE} AS t, wanted AS w
                WHERE t.queue = w.queue AND {self._is_due}
                    AND t.name = ANY(w.names) AND t.crashes < w.crashes
                ORDER BY t.priority DESC, t.id LIMIT 1),
            heads AS (
                SELECT h.id,
                    row_number() OVER (PARTITION BY o.owner ORDER BY h.id)
                        + COALESCE((w.running ->> o.owner)::int, 0) AS turn
                FROM wanted AS w CROSS JOIN owners AS o CROSS JOIN LATERAL (
                    SELECT t.id FROM {TABLE} AS t
                    WHERE t.queue = w.queue AND {self._is_due}
                        AND COALESCE(t.owner_id, '') = o.owner
                        AND t.priority = (SELECT priority FROM top)
                        AND t.name = ANY(w.names) AND t.crashes < w.crashes
                    ORDER BY t.id
                    LIMIT (SELECT most FROM wanted) / (SELECT count(*) FROM owners) + 1) AS h
                WHERE o.owner IS NOT NULL),
            chosen AS (SELECT id FROM heads ORDER BY turn, id LIMIT (SELECT most FROM wanted)),
            due AS (
                SELECT t.id FROM {TABLE} AS t JOIN chosen ON chosen.id = t.id
                WHERE {self._is_due}
                FOR NO KEY UPDATE OF t SKIP LOCKED)
            UPDATE {TABLE} AS t SET {self._claim_sets()}
            FROM due WHERE t.id = due.id
            RETURNING {columns}, t.arguments"""

    def fair_params(
        self, lane: QueueClaim, runtime_id: UUID, token: UUID, clock: str | None
    ) -> list[Any]:
        running = self.encoder.encode(lane.running).decode()
        return [
            lane.queue, lane.queue, lane.queue, list(lane.names), lane.crashes, running,
            lane.limit, runtime_id, token,
        ]  # fmt: skip

    # A holder that is dead: the rule is in `docs/how-it-works.md`, with the table of states.
    _recovered = (
        "CASE WHEN t.cancel_requested THEN 'cancelled'"
        " WHEN t.rerun_on_crash AND t.crashes < %s THEN 'retrying' ELSE 'failed' END"
    )

    def _recover_sets(self) -> str:
        final = "lost.settled <> 'retrying'"
        return f"""
            status = lost.settled, seq = t.seq + 1, step = 0, crashes = t.crashes + 1,
            error = CASE WHEN lost.settled = 'failed' THEN '{LOST}' END,
            error_code = CASE lost.settled WHEN 'failed' THEN 'worker_lost'
                WHEN 'cancelled' THEN 'cancelled' END,
            traceback = NULL, run_after = NULL,
            completed_at = CASE WHEN {final} THEN {self.now_of("lost")} END,
            expires_at = CASE WHEN {final} AND lost.ttl IS NOT NULL
                THEN {self.later("lost.ttl", "lost")} END,
            callback_at = CASE WHEN lost.settled = 'failed' AND lost.callback IS NOT NULL
                THEN {self.later("lost.callback", "lost")} END,
            unique_key = CASE WHEN {final} THEN NULL ELSE t.unique_key END,
            runtime_id = NULL, token = NULL, updated_at = {self.now_of("lost")}"""

    def _recover(self) -> str:
        columns = ", ".join(f"t.{column}" for column in SNAPSHOT)
        return f"""
            WITH lost AS (
                SELECT t.id, {self._recovered} AS settled, %s::float8 AS ttl, %s::float8 AS callback
                FROM {TABLE} AS t
                WHERE t.status = 'running' AND t.runtime_id = %s
                ORDER BY t.id LIMIT %s FOR NO KEY UPDATE SKIP LOCKED)
            UPDATE {TABLE} AS t SET {self._recover_sets()}
            FROM lost WHERE t.id = lost.id
            RETURNING {columns}"""

    def recover_params(self, recovery: Recovery, limit: int, clock: str | None) -> list[Any]:
        return [
            recovery.max_crashes, recovery.ttl, recovery.callback, recovery.holder, limit,
        ]  # fmt: skip


class SQLiteDialect(Dialect):
    """SQLite: Python's clock in Django's own text format, ids as 32 hex digits, one writer."""

    encoder = msgspec.json.Encoder(uuid_format="hex")
    json = ""
    no_lock_wait = None
    now = "r.now"
    # The plus keeps SQLite from walking all running rows by the status's index instead of ids.
    _held = "t.id = r.id AND t.token = r.token AND +t.status = 'running'"

    def records(self, fields: dict[str, str]) -> str:
        columns = ", ".join(f"json_extract(value, '$.{name}') AS {name}" for name in fields)
        return f"(SELECT {columns}, c.now AS now FROM json_each(%s), (SELECT %s AS now) AS c) AS r"

    def now_of(self, record: str) -> str:
        return f"{record}.now"

    def later(self, seconds: str, record: str = "r") -> str:
        # Milliseconds, not microseconds; as text it still sorts with Django's own values.
        return (
            f"strftime('%%Y-%%m-%%d %%H:%%M:%%f', {self.now_of(record)}, {seconds} || ' seconds')"
        )

    def as_text(self, time: str) -> str:
        return time

    def bind_records(self, records: Iterable[Any], clock: str | None) -> list[Any]:
        return [*super().bind_records(records, clock), clock]

    def bind_new(self, new: NewExecution, connection: BaseDatabaseWrapper) -> Any:
        if new.run_after is None:
            return new
        bound = self._bind_time(connection, new.run_after)
        return msgspec.structs.asdict(new) | {"run_after": bound}

    def on(self, connection: BaseDatabaseWrapper) -> Dialect:
        zone = connection.timezone
        return self if zone is None or zone is UTC else _sqlite_in(zone)

    def clock(self, connection: BaseDatabaseWrapper) -> str | None:
        if connection.timezone is UTC:  # the usual case, at a tenth of the cost
            return str(datetime.now(UTC).replace(tzinfo=None))
        return self._bind_time(connection, datetime.now(UTC))

    def bind_outcome(self, outcome: Outcome) -> Any:
        return outcome  # JSON is text here, and stays as it is written

    def _bind_time(self, connection: BaseDatabaseWrapper, value: datetime) -> str:
        return str(connection.ops.adapt_datetimefield_value(storable(value)))

    def read_id(self, value: Any) -> UUID:
        return UUID(value)

    def raw_id(self, value: UUID) -> Any:
        return value.hex

    def _build(self) -> Statements:
        base = super()._build()
        return Statements(
            create=base.create,
            # Each row of an answer hands the interpreter over to the loop and back.
            create_due=base.create.partition("RETURNING")[0],
            settle=base.settle,
            progress=base.progress,
            claim=base.claim,
            claim_suspect=base.claim_suspect,
            claim_fair=base.claim_fair,
            recover=base.recover,
            audit=base.audit,
            stage=f"""
                UPDATE {TABLE} SET run_after = NULL WHERE run_after <= %s""",
            next_due=f"""
                SELECT (julianday(min(run_after)) - julianday(%s)) * 86400.0 FROM {TABLE}
                WHERE run_after IS NOT NULL""",
        )

    def _progress(self) -> str:
        return f"""
            UPDATE {TABLE} AS t SET {self._progress_sets}, updated_at = {self.now}
            FROM {self.records(_PROGRESS)}
            WHERE {self._held}"""

    def _settle(self) -> str:
        return f"""
            UPDATE {TABLE} AS t SET {self._settle_sets(self._settled)}
            FROM {self.records(_OUTCOME)}
            WHERE {self._held}
            RETURNING id, status, seq, updated_at, run_after, expires_at, cancel_requested"""

    def _claim(self, compared: str) -> str:
        columns = ", ".join(SNAPSHOT)
        return f"""
            UPDATE {TABLE} AS t SET {self._claim_sets()}
            FROM (
                SELECT id AS due_id, %s AS now FROM {TABLE}
                WHERE queue = %s AND status IN ('pending', 'retrying') AND run_after IS NULL
                    AND name IN (SELECT value FROM json_each(%s)) AND crashes {compared} %s
                ORDER BY priority DESC, id LIMIT %s) AS r
            WHERE t.id = r.due_id
            RETURNING {columns}, arguments"""

    def claim_params(
        self, lane: QueueClaim, runtime_id: UUID, token: UUID, clock: str | None
    ) -> list[Any]:
        names = self.encoder.encode(lane.names).decode()
        return [
            runtime_id.hex, token.hex, clock, lane.queue, names, lane.crashes, lane.limit,
        ]  # fmt: skip

    def _claim_fair(self) -> str:
        columns = ", ".join(SNAPSHOT)
        claimable = f"""x.queue = w.queue AND {self._is_due} AND x.crashes < w.crashes
                        AND x.name IN (SELECT value FROM json_each(w.names))"""
        return f"""
            WITH RECURSIVE {self._owners},
            w AS (SELECT %s AS queue, %s AS names, %s AS crashes, %s AS running, %s AS most),
            top AS (
                SELECT x.priority FROM {TABLE} AS x INDEXED BY rat_due, w WHERE {claimable}
                ORDER BY x.priority DESC, x.id LIMIT 1),
            heads AS (
                SELECT h.id,
                    row_number() OVER (PARTITION BY o.owner ORDER BY h.id)
                        + COALESCE((SELECT value FROM json_each(w.running) WHERE key = o.owner), 0)
                        AS turn
                FROM w CROSS JOIN owners AS o JOIN {TABLE} AS h ON h.id IN (
                    SELECT x.id FROM {TABLE} AS x
                    WHERE {claimable} AND COALESCE(x.owner_id, '') = o.owner
                        AND x.priority = (SELECT priority FROM top)
                    ORDER BY x.id
                    LIMIT (SELECT most FROM w) / (SELECT count(*) FROM owners) + 1)
                WHERE o.owner IS NOT NULL)
            UPDATE {TABLE} AS t SET {self._claim_sets()}
            FROM (
                SELECT id AS due_id, %s AS now FROM heads
                ORDER BY turn, id LIMIT (SELECT most FROM w)) AS r
            WHERE t.id = r.due_id
            RETURNING {columns}, arguments"""

    def fair_params(
        self, lane: QueueClaim, runtime_id: UUID, token: UUID, clock: str | None
    ) -> list[Any]:
        running = self.encoder.encode(lane.running).decode()
        names = self.encoder.encode(lane.names).decode()
        return [
            lane.queue, lane.queue, lane.queue, names, lane.crashes, running, lane.limit,
            runtime_id.hex, token.hex, clock,
        ]  # fmt: skip

    def _recover(self) -> str:
        columns = ", ".join(SNAPSHOT)
        return f"""
            UPDATE {TABLE} AS t SET {self._recover_sets()}
            FROM (
                SELECT id AS lost_id, {self._recovered} AS settled,
                    %s AS ttl, %s AS callback, %s AS now
                FROM {TABLE} AS t
                WHERE status = 'running' AND runtime_id = %s ORDER BY id LIMIT %s) AS lost
            WHERE t.id = lost.lost_id
            RETURNING {columns}"""

    def recover_params(self, recovery: Recovery, limit: int, clock: str | None) -> list[Any]:
        return [
            recovery.max_crashes, recovery.ttl, recovery.callback, clock,
            recovery.holder.hex, limit,
        ]  # fmt: skip


@cache
def _sqlite_in(zone: tzinfo) -> Dialect:
    dialect = copy(DIALECTS["sqlite"])
    dialect.zone = zone
    return dialect


# By the vendor of Django's connection; other databases have `portable.py`.
DIALECTS: dict[str, Dialect] = {"postgresql": Dialect(), "sqlite": SQLiteDialect()}
