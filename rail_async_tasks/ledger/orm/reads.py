"""Reads of executions and counts for admission."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Final, TypeVar
from uuid import UUID

import msgspec
from django.db import InterfaceError, OperationalError, connections
from django.db.models import Func, IntegerField, QuerySet, Sum

from rail_async_tasks.ledger.orm.isolation import retried
from rail_async_tasks.ledger.orm.part import OrmPart
from rail_async_tasks.ledger.records import TOLERANCE, Page, Survey
from rail_async_tasks.ledger.rows import now, snapshot_of, snapshot_rows, unexpired
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.states import FINAL, UNFINISHED, WAITING

T = TypeVar("T")

# Below the 999 parameters that a SQLite may be built with.
_IDS_AT_ONCE: Final = 900


class StoredBytes(Func):
    """The length of a JSON column's text in bytes, which the database counts."""

    output_field = IntegerField()
    template = "LENGTH(%(expressions)s)"  # of a CLOB or a text; of bytes on MySQL and MariaDB

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(
            compiler, connection, template="LENGTH(CAST(%(expressions)s AS BLOB))", **context
        )

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(
            compiler, connection, template="OCTET_LENGTH((%(expressions)s)::text)", **context
        )


class OrmReads(OrmPart):
    """See `port.Reads` and `port.LoopReads`."""

    blocking = True

    # --- in the caller's thread ------------------------------------------------------------------

    def get(self, execution_id: UUID) -> TaskSnapshot | None:
        found = self.get_many([execution_id])
        return found[0] if found else None

    @retried
    def get_many(self, execution_ids: Sequence[UUID]) -> list[TaskSnapshot]:
        return read_many(self.alias, execution_ids)

    @retried
    def arguments(self, execution_id: UUID) -> str | None:
        return read_arguments(self.alias, execution_id)

    @retried
    def language(self, execution_id: UUID) -> str | None:
        return read_carried(self.alias, execution_id)[0]

    @retried
    def tracebacks(self, execution_ids: Collection[UUID]) -> dict[UUID, str]:
        rows = self._rows().filter(unexpired(self.alias), id__in=execution_ids)
        known = rows.filter(traceback__isnull=False).order_by()
        return {it: text for it, text in known.values_list("id", "traceback") if text is not None}

    @retried
    def page(self, page: Page) -> list[TaskSnapshot]:
        rows = self._on(page)
        return [snapshot_of(row) for row in (rows if page.results else rows.defer("result"))]

    @retried
    def result_bytes(self, page: Page) -> int:
        sized = self._on(page).annotate(result_size=StoredBytes("result")).values("result_size")
        total: int | None = sized.aggregate(total=Sum("result_size"))["total"]
        return total or 0

    def _on(self, page: Page) -> QuerySet[TaskExecution]:
        """Returns the rows of a page."""
        rows = snapshot_rows(self.alias).filter(unexpired(self.alias))
        if not page.everyone:
            rows = rows.filter(owner_id=page.owner_id, tenant_id=page.tenant_id)
        if page.status is not None:
            rows = rows.filter(status=page.status)
        if page.unfinished:
            rows = rows.filter(status__in=sorted(UNFINISHED))
        if page.name is not None:
            rows = rows.filter(name=page.name)
        if page.queue is not None:
            rows = rows.filter(queue=page.queue)
        if page.after is not None:
            rows = rows.filter(id__lt=page.after)
        return rows.order_by("-id")[: page.limit]

    @retried
    def ended_lately(self, owner_id: str, tenant_id: str | None, seconds: float) -> list[UUID]:
        theirs = self._rows().filter(owner_id=owner_id, tenant_id=tenant_id)
        ended = theirs.filter(status__in=sorted(FINAL), **self._changed_in(seconds))
        newest = ended.order_by("-updated_at", "-id").values_list("id", flat=True)
        return list(newest[: self._options.max_changed])

    def ping(self) -> None:
        self._rows().order_by().exists()

    # --- on the runtime's loop -------------------------------------------------------------------

    async def reread(self, execution_ids: Sequence[UUID]) -> list[TaskSnapshot]:
        return await self._threads.read(lambda: self.get_many(execution_ids))

    async def changed_lately(
        self, owner_ids: Collection[str], seconds: float
    ) -> list[TaskSnapshot]:
        def read() -> list[TaskSnapshot]:
            rows = snapshot_rows(self.alias).filter(owner_id__in=owner_ids)
            rows = rows.filter(**self._changed_in(seconds))
            visible = rows.filter(unexpired(self.alias))
            newest = visible.order_by("-updated_at", "-id")[: self._options.max_changed]
            return [snapshot_of(row) for row in newest][::-1]

        return await self._threads.read(read)

    async def queues(self) -> Sequence[str]:
        waiting = self._rows().filter(status__in=sorted(WAITING)).order_by()
        return await self._threads.read(
            lambda: list(waiting.values_list("queue", flat=True).distinct())
        )

    async def survey(self, queues: Collection[str]) -> Survey:
        return await self._threads.read(lambda: self._survey(queues))

    def _survey(self, queues: Collection[str]) -> Survey:
        with connections[self.alias].cursor() as cursor:
            return self._batch().survey(cursor, queues)

    def _changed_in(self, seconds: float) -> dict[str, Any]:
        """Returns the condition for rows that changed in the last so many seconds.

        It leaves out rows whose time a clock has stored that was ahead: they would match for ever.
        """
        at = now(self.alias)
        since = at - timedelta(seconds=seconds)
        return {"updated_at__gte": since, "updated_at__lte": at + TOLERANCE}


class OrmCounts(OrmPart):
    """See `port.Counts`."""

    @retried
    def count_waiting(self, owner_id: str | None, at_most: int) -> int:
        waiting = self._rows().filter(status__in=sorted(WAITING)).order_by()
        if owner_id is not None:
            waiting = waiting.filter(owner_id=owner_id)
        return self._reconnecting(waiting[:at_most].count)

    @retried
    def nth_newest(
        self, owner_id: str | None, since: UUID, until: UUID, n: int, besides: Collection[UUID]
    ) -> UUID | None:
        started = self._rows().filter(owner_id=owner_id, id__gte=since, id__lt=until)
        started = started.order_by("-id")
        if besides:
            started = started.exclude(id__in=besides)
        return self._reconnecting(started.values_list("id", flat=True)[n - 1 : n].first)

    @retried
    def unfinished(self, execution_ids: Collection[UUID]) -> dict[UUID, str]:
        ids = list(execution_ids)
        found: dict[UUID, str] = {}
        for first in range(0, len(ids), _IDS_AT_ONCE):
            rows = self._rows().filter(id__in=ids[first : first + _IDS_AT_ONCE]).order_by()
            unfinished = rows.filter(status__in=sorted(UNFINISHED))
            found.update(self._reconnecting(partial(dict, unfinished.values_list("id", "status"))))
        return found

    def _reconnecting(self, read: Callable[[], T]) -> T:
        """Reads again on a new connection where this thread's was lost, outside a transaction."""
        connection = connections[self.alias]
        try:
            return read()
        except (OperationalError, InterfaceError):
            if connection.in_atomic_block:
                raise
            connection.close()
            return read()


def read_many(alias: str, execution_ids: Sequence[UUID]) -> list[TaskSnapshot]:
    """Returns those of the executions that exist and have not expired."""
    rows = snapshot_rows(alias).filter(unexpired(alias), id__in=execution_ids)
    return [snapshot_of(row) for row in rows]


def read_one(alias: str, execution_id: UUID) -> TaskSnapshot | None:
    """Returns the execution; None if there is none, or it has expired."""
    found = read_many(alias, [execution_id])
    return found[0] if found else None


def read_arguments(alias: str, execution_id: UUID) -> str | None:
    """Returns an execution's arguments as JSON text."""
    rows = TaskExecution.objects.using(alias).filter(id=execution_id)
    row = rows.values_list("arguments", flat=True).first()
    return None if row is None else msgspec.json.encode(row).decode()


def read_carried(alias: str, execution_id: UUID) -> tuple[str | None, str | None, str | None]:
    """Returns the language, `traceparent` and `tracestate` of an execution."""
    rows = TaskExecution.objects.using(alias).filter(id=execution_id)
    row = rows.values_list("language", "traceparent", "tracestate").first()
    return (None, None, None) if row is None else row
