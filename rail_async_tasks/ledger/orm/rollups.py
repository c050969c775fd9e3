"""Roll-ups as rows of `TaskRollup` and `ErrorRollup`."""

from __future__ import annotations

import functools
import operator
from collections.abc import Collection, Iterable, Mapping
from hashlib import blake2b
from typing import Any, Final
from uuid import UUID

from django.db import DatabaseError, connections
from django.db.models import Max, Min, Q, QuerySet, Sum

from rail_async_tasks.ledger.orm.deletions import delete_aside
from rail_async_tasks.ledger.orm.isolation import retried
from rail_async_tasks.ledger.orm.part import OrmPart
from rail_async_tasks.ledger.orm.upserts import upsert
from rail_async_tasks.ledger.rollups import (
    ERROR_SPAN,
    ERRORS_KEPT,
    KEPT,
    CommitUnknown,
    ErrorHour,
    ErrorSums,
    RollupBatch,
    Sums,
    TaskCounts,
)
from rail_async_tasks.ledger.rows import clock
from rail_async_tasks.models import ErrorRollup, TaskRollup
from rail_async_tasks.rollups.columns import COUNTS

_KEY: Final = ("id", "span", "start", "name", "queue")
_ERROR: Final = ("id", "start", "name", "error", "place")
_SEEN: Final = ("failed", "retried", "first_at", "last_at", "example_id")


class OrmRollups(OrmPart):
    """See `rollups.Rollups`."""

    async def add(self, batch: RollupBatch) -> bool:
        written = False

        def write() -> bool:
            nonlocal written
            written = False
            connection = connections[self.alias]
            rows = [(*key, *counts) for key, counts in by_span(batch.tasks).items()]
            upsert(connection, TaskRollup, (*_KEY, *COUNTS), rows, dict.fromkeys(COUNTS, "add"))
            upsert(
                connection, ErrorRollup, (*_ERROR, *_SEEN), sorted(_error_rows(batch)),
                {
                    "failed": "add", "retried": "add", "first_at": "least", "last_at": "greatest",
                    "example_id": "replace",
                },
            )  # fmt: skip
            written = True
            return True

        try:
            return await self._threads.change_once(write, otherwise=False)
        except DatabaseError as error:
            if written:
                raise CommitUnknown from error
            raise

    async def delete_old(self, limit: int) -> int:
        return await delete_aside(self.alias, self._threads, lambda: self._delete_old(limit))

    def _delete_old(self, limit: int) -> int:
        now, count = int(self.now()), 0
        old = [self._tasks().filter(span=span, start__lt=now - kept) for span, kept in KEPT.items()]
        errors = ErrorRollup.objects.using(self.alias).filter(start__lt=now - ERRORS_KEPT)
        for rows in (*old, errors):
            # Read first: a DELETE on SQLite takes the one write lock even where it finds nothing.
            ids = list(rows.order_by("start").values_list("id", flat=True)[: limit - count])
            if ids:
                table: QuerySet[Any] = QuerySet(rows.model, using=self.alias)
                count += table.filter(id__in=ids)._raw_delete(self.alias)  # noqa: SLF001
            if count >= limit:
                break
        return count

    # --- in the caller's thread ------------------------------------------------------------------

    def now(self) -> float:
        return clock(self.alias).timestamp()

    @retried
    def sums(
        self,
        span: int,
        since: int,
        *,
        by: str | None = None,
        queue: str | None = None,
        name: str | None = None,
    ) -> list[Sums]:
        rows = self._tasks().filter(span=span, start__gte=since)
        equal = {"queue": queue, "name": name}
        rows = rows.filter(**{key: text for key, text in equal.items() if text is not None})
        group = ("start",) if by is None else ("start", by)
        summed = rows.order_by(*group).values_list(*group).annotate(*map(Sum, COUNTS))
        first = len(group)
        return [Sums(row[0], None if by is None else row[1], row[first:]) for row in summed]

    @retried
    def errors(self, since: int) -> list[ErrorSums]:
        rows = self._errors().filter(start__gte=since)
        summed = rows.values_list("error", "place", "name").annotate(
            Sum("failed"), Sum("retried"), Min("first_at"), Max("last_at")
        )
        return [ErrorSums(*row) for row in summed]

    @retried
    def error_hours(self, since: int, errors: Collection[tuple[str, str]]) -> list[ErrorHour]:
        which = _any(Q(error=error, place=place) for error, place in errors)
        if which is None:
            return []
        rows = self._errors().filter(which, start__gte=since)
        summed = rows.values_list("error", "place", "start").annotate(Sum("failed"), Sum("retried"))
        return [ErrorHour(error, place, start, a + b) for error, place, start, a, b in summed]

    @retried
    def examples(self, seen: Mapping[tuple[str, str], int]) -> dict[tuple[str, str], UUID]:
        which = _any(
            Q(error=error, place=place, start=at // ERROR_SPAN * ERROR_SPAN)
            for (error, place), at in seen.items()
        )
        if which is None:
            return {}
        rows = self._errors().filter(which).order_by("last_at")
        found = rows.values_list("error", "place", "example_id")
        return {(error, place): example for error, place, example in found}

    def _tasks(self) -> QuerySet[TaskRollup]:
        return TaskRollup.objects.using(self.alias)

    def _errors(self) -> QuerySet[ErrorRollup]:
        return ErrorRollup.objects.using(self.alias).order_by()


def _any(conditions: Iterable[Q]) -> Q | None:
    """Returns the rows that fit one of the conditions; None where there is no condition."""
    found = list(conditions)
    return functools.reduce(operator.or_, found) if found else None


def by_span(tasks: Iterable[TaskCounts]) -> dict[tuple[Any, ...], list[int]]:
    """Returns the counts of each row: minutes, and added up for the longer spans.

    In the order of ids, so that two processes never wait for each other in a ring.
    """
    rows: dict[tuple[Any, ...], list[int]] = {}
    for it in tasks:
        for span in KEPT:
            start = it.minute // span * span
            key = (digest(span, start, it.name, it.queue), span, start, it.name, it.queue)
            before = rows.get(key)
            rows[key] = (
                list(it.counts)
                if before is None
                else [a + b for a, b in zip(before, it.counts, strict=True)]
            )
    return dict(sorted(rows.items()))


def _error_rows(batch: RollupBatch) -> Iterable[tuple[Any, ...]]:
    for it in batch.errors:
        yield (
            digest(it.start, it.name, it.error, it.place), it.start, it.name, it.error, it.place,
            it.failed, it.retried, it.first_at, it.last_at, it.example_id,
        )  # fmt: skip


def digest(*key: object) -> UUID:
    """Returns the primary key of a roll-up: one row per key, whichever process writes it first."""
    text = "\0".join(map(str, key))
    # With the marks of a version: MariaDB refuses a UUID without.
    return UUID(bytes=blake2b(text.encode(), digest_size=16).digest(), version=5)
