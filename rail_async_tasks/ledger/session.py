"""A writer thread's session: its own connection, on which it executes batches of operations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import InterfaceError, OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

from rail_async_tasks.db_connections import (
    DriverCursor,
    dedicated_connection,
    is_of_pooler,
    is_passing,
)
from rail_async_tasks.ledger.batch import Batch
from rail_async_tasks.ledger.locks import is_lock_refusal
from rail_async_tasks.ledger.operations import Change, Claim, Create, Keep, Read, Recover, Settle
from rail_async_tasks.ledger.writer_port import AGAIN
from rail_async_tasks.safe_logging import get_logger

logger = get_logger("rail_async_tasks.ledger")

# PostgreSQL's read_only_sql_transaction and insufficient_privilege: a primary that was demoted, a
# right that was revoked. An operator will mend it.
_MENDED_BY_OPERATORS = ("25006", "42501")


class WriterSession:
    """See `writer.Session`.

    Args:
        alias: the database.
        batch_on: returns what writes one batch to this connection's database.
    """

    def __init__(self, alias: str, batch_on: Callable[[BaseDatabaseWrapper], Batch]) -> None:
        self._alias = alias
        self._batch_on = batch_on
        self._connection: BaseDatabaseWrapper | None = None
        self._cursor: DriverCursor | None = None
        self._prepares = True
        self.may_have_committed = False

    def is_transient(self, error: Exception) -> bool:
        """Returns whether the database may accept the same batch later."""
        if self._prepares and is_of_pooler(error):
            self._prepares = False
            return True
        # Django maps lost connections, locks, deadlocks and serialization failures to these two;
        # on SQLite also errors that no retry mends, such as a table that is not there.
        if not isinstance(error, OperationalError | InterfaceError):
            return getattr(error.__cause__, "sqlstate", None) in _MENDED_BY_OPERATORS
        code = error.args[0] if error.args else None
        if isinstance(code, int):  # MySQL's number; others have words alone
            return is_passing(code)
        lasting = ("no such table", "no such column", "syntax error")
        return not any(words in str(error) for words in lasting)

    def reset(self) -> None:
        """Closes the connection; the next batch opens one."""
        connection, self._connection, self._cursor = self._connection, None, None
        if connection is not None:
            try:
                connection.close()
            except Exception:  # it was lost anyway
                logger.debug("closing a lost connection failed", exc_info=True)

    def _opened(self) -> tuple[BaseDatabaseWrapper, DriverCursor]:
        if self._connection is None or self._cursor is None:
            try:
                if self._connection is None:
                    self._connection = dedicated_connection(self._alias)
                self._cursor = DriverCursor(self._connection, prepares=self._prepares)
            except (OperationalError, InterfaceError, ImproperlyConfigured):
                raise
            except BaseException as error:
                # A receiver of `connection_created`, for example: the operations are in order, so
                # they must not be reported as wrong.
                raise InterfaceError(f"connecting raised {error!r:.200}") from error
        return self._connection, self._cursor

    def execute(self, batch: Sequence[Any]) -> list[Any]:
        """Writes the batch; returns a result for each operation, in their order."""
        self.may_have_committed = False
        connection, cursor = self._opened()
        work = self._batch_on(connection)
        if batch[0].key is not None:
            self.may_have_committed = True
            return work.create_unique(cursor, [op.new for op in batch])
        results = self._write(work, cursor, batch)
        unchanged = [op for op in batch if type(op) is Settle and results[id(op)] is None]
        if unchanged:
            found = work.look_after([op.outcome for op in unchanged])
            results.update(zip(map(id, unchanged), found, strict=True))
        for op in batch:
            if type(op) is Claim:
                results[id(op)] = work.claim(cursor, op)
            elif type(op) is Recover:
                results[id(op)] = work.recover(cursor, op.recovery, op.limit)
            elif type(op) is Read or type(op) is Change:
                results[id(op)] = op.call()
        return [results.get(id(op)) for op in batch]

    def _write(self, work: Batch, cursor: DriverCursor, batch: Sequence[Any]) -> dict[int, Any]:
        """Writes the batch's creations, outcomes and progress; results by the operations' `id()`.

        None for an outcome that has changed no row.
        """
        creates = [op for op in batch if type(op) is Create]
        settles = [op for op in batch if type(op) is Settle]
        keeps = [op for op in batch if type(op) is Keep]
        statements = bool(creates) + bool(settles) + bool(keeps)
        results: dict[int, Any] = {}
        if not statements:
            return results
        # One statement is a transaction by itself, without the round trips of BEGIN and COMMIT.
        together = statements > 1 or work.in_transactions
        # A locked SQLite file is no lost answer: nothing was written.
        remote = work.remote
        group = work.group(cursor, creates_only=not settles and not keeps)
        try:
            with group if together else nullcontext():
                self.may_have_committed = remote and not together
                if creates:
                    made = work.create(cursor, [op.new for op in creates])
                    results.update(zip(map(id, creates), made, strict=True))
                if settles:
                    ended = work.settle(cursor, [op.outcome for op in settles])
                    results.update(zip(map(id, settles), ended, strict=True))
                if keeps:
                    superseded = {op.outcome.id for op in settles}
                    work.progress(cursor, [op.progress for op in keeps], superseded)
                self.may_have_committed = remote
        except OperationalError as error:
            if not (work.by_row and creates and is_lock_refusal(error)):
                raise
            # InnoDB's lock of a gap between keys: claims and reads go on.
            results = {id(op): AGAIN for op in [*creates, *settles, *keeps]}
        return results
