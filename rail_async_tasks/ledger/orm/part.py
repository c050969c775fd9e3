"""Base of the ORM ledger's parts: the database, the options and the writer threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from django.db import connections
from django.db.models import QuerySet

from rail_async_tasks.ledger import audit
from rail_async_tasks.ledger.batch import Batch
from rail_async_tasks.ledger.options import LedgerOptions, ReadOptions
from rail_async_tasks.ledger.orm.threads import WriterThreads
from rail_async_tasks.ledger.vendors import batch_on
from rail_async_tasks.models import TaskExecution


class OrmPart:
    """Base of the classes that implement one small port each. `OrmLedger` inherits from all.

    Methods of the runtime run in a writer's thread; methods of the service in the caller's thread,
    on the caller's connection and in its transaction.
    """

    def __init__(self, alias: str, *, options: ReadOptions, threads: WriterThreads) -> None:
        self.alias = alias
        self._read_options = options
        self._threads = threads

    @property
    def _options(self) -> LedgerOptions:
        return self._read_options()

    def _rows(self) -> QuerySet[TaskExecution]:
        return TaskExecution.objects.using(self.alias)

    def _batch(self) -> Batch:
        """Returns the statements of the SQL ledger on this thread's connection."""
        return batch_on(connections[self.alias], audited=self._options.audit)

    def _record(self, events: Callable[[], Iterable[audit.Event]]) -> None:
        """Stores audit rows in this thread's transaction, if there is an audit."""
        if self._options.audit:
            with connections[self.alias].cursor() as cursor:
                self._batch().record(cursor, events())
