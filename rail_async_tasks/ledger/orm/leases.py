"""Leases: rows of `TaskRuntime`, by which processes know of each other.

One thread calls them and owns the connection. Times are the database's; on SQLite the host's.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection
from contextlib import suppress
from datetime import timedelta
from uuid import UUID

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import DurationField, Exists, ExpressionWrapper, F, QuerySet

from rail_async_tasks.db_connections import dedicated_connection
from rail_async_tasks.ledger.locks import unlocked, update_unlocked
from rail_async_tasks.ledger.records import (
    INLINE_HOLDER,
    INLINE_SECONDS,
    NOTHING_KNOWN,
    Renewal,
    Vitals,
)
from rail_async_tasks.ledger.rows import now
from rail_async_tasks.ledger.sql.statements.renew import RENEW, parameters
from rail_async_tasks.models import TaskExecution, TaskRuntime
from rail_async_tasks.states import Status

# Days for which a dead runtime's row is kept for operators to see.
KEPT_DAYS = 1


class OrmLeases:
    """See `upkeep.Leases`."""

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._connection: BaseDatabaseWrapper | None = None

    @property
    def one_writer(self) -> bool:
        return connections[self._alias].vendor == "sqlite"

    def begin(
        self,
        runtime_id: UUID,
        names: Collection[str],
        seconds: float,
        vitals: Vitals = NOTHING_KNOWN,
        program: str = "",
    ) -> None:
        at = now(self._alias)
        row = TaskRuntime(
            id=runtime_id,
            place=f"{socket.gethostname()} {os.getpid()}"[:255],
            role=vitals.role,
            program=program,
            names=sorted(names),
            started_at=at,
            renewed_at=at,
            lapses_at=at + timedelta(seconds=seconds),
        )
        # In bulk, which sends no signals: a project's receiver for every model must not run here.
        self._rows().bulk_create([row])

    def renew(self, runtime_id: UUID, seconds: float, vitals: Vitals) -> Renewal:
        rows = self._rows()
        if connections[self._alias].vendor == "postgresql":
            with connections[self._alias].cursor() as cursor:
                cursor.execute(RENEW, parameters(runtime_id, seconds, vitals))
                alive, left, silent, others, holders = cursor.fetchone()
            return Renewal(
                alive=alive, left=left, silent=silent, others=others,
                dead_holders=frozenset(holders),
            )  # fmt: skip
        at = now(self._alias)
        others = rows.filter(dead=False, lapses_at__lt=at).exclude(id=runtime_id)
        left_and_silent = rows.filter(id=runtime_id).annotate(
            left=ExpressionWrapper(F("lapses_at") - at, DurationField()), silent=Exists(others)
        )
        found = left_and_silent.values_list("left", "silent").first()
        left, silent = (None, False) if found is None else (found[0].total_seconds(), found[1])
        changed = rows.filter(id=runtime_id, dead=False).update(
            renewed_at=at,
            lapses_at=at + timedelta(seconds=seconds),
            role=vitals.role,
            lag_seconds=vitals.lag_seconds,
            leaked=vitals.leaked,
        )
        return Renewal(
            alive=bool(changed), left=left, silent=silent,
            dead_holders=frozenset(self.dead_holders()),
        )  # fmt: skip

    def end(self, runtime_id: UUID) -> None:
        # One that was found dead has not ended by itself, whatever it believes.
        alive = self._rows().filter(id=runtime_id, dead=False)
        alive.update(dead=True, ended_at=now(self._alias))

    def condemn(self) -> int:
        silent = self._rows().filter(dead=False, lapses_at__lt=now(self._alias))
        return update_unlocked(silent, dead=True).rows

    def dead_holders(self) -> set[UUID]:
        held = TaskExecution.objects.using(self._alias).filter(status=Status.RUNNING).order_by()
        long_ago = now(self._alias) - timedelta(seconds=INLINE_SECONDS)
        held = held.exclude(runtime_id=INLINE_HOLDER, started_at__gt=long_ago)
        found = held.values_list("runtime_id", flat=True).distinct()
        holders = {holder for holder in found if holder is not None}
        if not holders:
            return set()
        # Read after the holders: each of them was registered before it held a row.
        alive = self._rows().filter(id__in=holders, dead=False)
        return holders - set(alive.values_list("id", flat=True))

    def forget(self) -> None:
        since = now(self._alias) - timedelta(days=KEPT_DAYS)
        held = TaskExecution.objects.using(self._alias).filter(status=Status.RUNNING)
        gone = self._rows().filter(dead=True, renewed_at__lt=since)
        gone = gone.exclude(id__in=held.values("runtime_id"))
        # `_raw_delete` sends no signals. Nothing refers to these rows.
        if not connections[self._alias].features.has_select_for_update_skip_locked:
            gone._raw_delete(self._alias)  # noqa: SLF001
            return
        with transaction.atomic(using=self._alias):
            ids = list(unlocked(gone, to_delete=True).values_list("id", flat=True))
            self._rows().filter(id__in=ids)._raw_delete(self._alias)  # noqa: SLF001

    def reset(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):  # it was lost, or a backend of the project's minds
                connection.close()

    def _rows(self) -> QuerySet[TaskRuntime]:
        if self._connection is None:
            self._connection = dedicated_connection(self._alias)
        return TaskRuntime.objects.using(self._alias)
