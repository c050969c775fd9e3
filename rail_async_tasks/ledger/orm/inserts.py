"""Creations in the caller's thread and transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from django.db import IntegrityError, connections, transaction

from rail_async_tasks.errors import BackendUnavailable
from rail_async_tasks.ledger.orm.isolation import read_outside, retried
from rail_async_tasks.ledger.orm.part import OrmPart
from rail_async_tasks.ledger.records import Created, CreatedMany, NewExecution
from rail_async_tasks.ledger.rows import find_unfinished
from rail_async_tasks.ledger.snapshots import add_created, as_created
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.text import counted


class OrmInserts(OrmPart):
    """See `port.CallerTransaction`."""

    def in_transaction(self) -> bool:
        return connections[self.alias].in_atomic_block

    def on_commit(self, callback: Callable[[], None]) -> None:
        transaction.on_commit(callback, using=self.alias, robust=True)

    @retried
    def create_here(self, new: NewExecution) -> Created:
        connection = connections[self.alias]
        for tried in range(self._options.max_key_attempts):
            try:
                # A savepoint inside the caller's transaction, which a taken key must not abort.
                with transaction.atomic(using=self.alias), connection.cursor() as cursor:
                    return self._batch().create(cursor, [new])[0]
            except IntegrityError:
                if new.unique_key is None:
                    raise
                existing = self._holder_of(new.unique_key)
                if existing is None and tried:
                    # Committed after the caller's transaction began, which does not see it.
                    existing = read_outside(self.alias, lambda: self._holder_of(new.unique_key))
            if existing is not None:
                return Created(existing.created_at, existing=existing)
            # The key was freed since then.
        raise BackendUnavailable(
            f"{new.name} was not started: other tasks took and freed its unique key"
            f" {counted(self._options.max_key_attempts, 'time')} meanwhile. Start it again."
        )

    @retried
    def create_many_here(self, pages: Iterable[Sequence[NewExecution]]) -> CreatedMany:
        made = CreatedMany([], [])
        with transaction.atomic(using=self.alias), connections[self.alias].cursor() as cursor:
            for page in pages:
                if page[0].unique_key is not None:  # and so in all
                    created = [self.create_here(new) for new in page]
                else:
                    created = self._batch().create(cursor, page)
                if all(it.existing is None for it in created):
                    snapshots = list(map(as_created, page, created))
                    made.stored.extend(snapshots)
                    made.fresh.extend(snapshots)
                else:
                    for new, it in zip(page, created, strict=True):
                        add_created(made, new, it)
        return made

    def _holder_of(self, key: str | None) -> TaskSnapshot | None:
        return find_unfinished(self.alias, [key]).get(key)
