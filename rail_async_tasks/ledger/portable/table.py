"""The executions as one batch reads and locks them, and the batch's time."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import cached_property
from typing import Any
from uuid import UUID

import msgspec
from django.db import connections
from django.db.models import QuerySet, TextField, Value

from rail_async_tasks.ledger.locks import unlocked
from rail_async_tasks.ledger.rows import clock
from rail_async_tasks.ledger.updates import Moment, moment_of
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.states import Status


class Table:
    """Rows of one database, within one batch."""

    def __init__(self, alias: str) -> None:
        self.alias = alias

    @property
    def skips_locked(self) -> bool:
        """True where the database can leave out rows that another transaction has locked."""
        features = connections[self.alias].features
        return bool(features.has_select_for_update_skip_locked)

    @cached_property
    def at(self) -> datetime:
        """The database's clock, one time for the whole batch."""
        return clock(self.alias)

    @cached_property
    def moment(self) -> Moment:
        """The same as columns take it."""
        return moment_of(self.at)

    def rows(self) -> QuerySet[TaskExecution]:
        return TaskExecution.objects.using(self.alias)

    def locked(self, rows: QuerySet[TaskExecution]) -> list[TaskExecution]:
        """Returns the rows, locked where others can skip that; else each UPDATE's guard decides."""
        return list(unlocked(rows))

    def locked_by_id(self, ids: Iterable[UUID]) -> dict[UUID, TaskExecution]:
        """Returns these rows, locked until the transaction ends, without those locked elsewhere."""
        rows = self.rows().filter(id__in=sorted(set(ids))).order_by("id")
        seen = rows.only("id", "token", "status", "seq", "retry_count", "cancel_requested")
        return {row.id: row for row in self.locked(seen)}

    def as_seen(self, row: TaskExecution) -> QuerySet[TaskExecution]:
        """Returns the running row, if no column has changed that a decision went by."""
        return self.rows().filter(
            id=row.id, token=row.token, status=Status.RUNNING, seq=row.seq,
            cancel_requested=row.cancel_requested,
        )  # fmt: skip


def json_value(text: str) -> Any:
    """Returns JSON text for a JSON column, which must not be encoded once more."""
    return Value(text, output_field=TextField())


def json_text(value: Any) -> str:
    """Returns a JSON column's value as text."""
    return msgspec.json.encode(value).decode()
