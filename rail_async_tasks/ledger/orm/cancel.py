"""Cancels: one statement over every unfinished row, in the caller's thread."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db import connections, transaction
from django.db.models import Case, F, Q, Value, When

from rail_async_tasks.ledger import audit
from rail_async_tasks.ledger.edges import CANCEL_WAITING, FLAG_CANCEL
from rail_async_tasks.ledger.locks import unlocked
from rail_async_tasks.ledger.notices import Notice
from rail_async_tasks.ledger.orm.isolation import retried
from rail_async_tasks.ledger.orm.notices import notify
from rail_async_tasks.ledger.orm.part import OrmPart
from rail_async_tasks.ledger.orm.reads import read_one
from rail_async_tasks.ledger.records import Cancelled, RowLocked
from rail_async_tasks.ledger.updates import database_moment, values_of
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.states import UNFINISHED, WAITING


class OrmCancels(OrmPart):
    """See `port.Cancels`."""

    @retried
    def cancel(
        self,
        execution_id: UUID,
        ttl: float | None,
        actor: str | None = None,
        *,
        wait: bool = True,
    ) -> Cancelled | None:
        unfinished = self._rows().filter(id=execution_id, status__in=sorted(UNFINISHED))
        connection = connections[self.alias]
        skips_locked = connection.features.has_select_for_update_skip_locked
        wait = wait or connection.in_atomic_block or not skips_locked
        with transaction.atomic(using=self.alias):
            free = wait or bool(list(unlocked(unfinished.only("id"))))
            if not free and unfinished.exists():
                raise RowLocked
            changed = free and unfinished.update(**_values(self.alias, ttl))
            snapshot = read_one(self.alias, execution_id)
            if changed and snapshot is not None:
                self._record(lambda: [audit.of_cancel(snapshot, actor)])
                if not snapshot.is_final:  # it runs, perhaps in another process
                    notify(self.alias, self._threads.sender, Notice.CANCELS, execution_id)
        return None if snapshot is None else Cancelled(snapshot, bool(changed))


def _values(alias: str, ttl: float | None) -> dict[str, Any]:
    """Returns the values of both edges: a waiting row ends, a running one is flagged."""
    at = database_moment(alias)
    flag = values_of(FLAG_CANCEL, at)
    end = values_of(CANCEL_WAITING, at, ttl=ttl)
    return {
        column: value if column in flag else _where_waiting(column, value)
        for column, value in end.items()
    }


def _where_waiting(column: str, value: Any) -> Case:
    """Returns the value for a waiting row; the column's old value for a running one."""
    kind: Any = TaskExecution._meta.get_field(column)
    if not hasattr(value, "resolve_expression"):
        value = Value(value, output_field=kind)
    waiting = Q(status__in=sorted(WAITING))
    return Case(When(waiting, then=value), default=F(column), output_field=kind)
