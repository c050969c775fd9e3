"""Pauses of queues as rows of `QueueState`, and counts by queue."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from uuid import UUID

from django.db import transaction
from django.db.models import Count, F, Min, Q, QuerySet

from rail_async_tasks.ledger.audit import queue_id
from rail_async_tasks.ledger.notices import Notice
from rail_async_tasks.ledger.orm.isolation import retried
from rail_async_tasks.ledger.orm.notices import notify
from rail_async_tasks.ledger.orm.part import OrmPart
from rail_async_tasks.ledger.queue_states import Pause, QueueCounts
from rail_async_tasks.ledger.rows import clock, in_utc, storable
from rail_async_tasks.models import QueueState, TaskEvent
from rail_async_tasks.states import UNFINISHED, WAITING, Status


def paused_rows(alias: str) -> QuerySet[QueueState]:
    """Returns the rows of the paused queues."""
    return QueueState.objects.using(alias).filter(paused_at__isnull=False)


class OrmQueueStates(OrmPart):
    """See `queue_states.QueueStates`."""

    async def paused_queues(self) -> Collection[str]:
        names = paused_rows(self.alias).values_list("name", flat=True)
        return await self._threads.run_aside(lambda: list(names.all()))

    def pauses(self) -> Mapping[str, Pause]:
        rows = paused_rows(self.alias).values_list("name", "paused_at", "paused_by")
        return {name: Pause(in_utc(at), by) for name, at, by in rows if at is not None}

    @retried
    def pause_queue(self, queue: str, by: str | None) -> bool:
        at = storable(clock(self.alias))
        rows = QueueState.objects.using(self.alias)
        with transaction.atomic(using=self.alias):
            # In bulk, which sends no signals.
            rows.bulk_create([QueueState(name=queue)], ignore_conflicts=True)
            running = rows.filter(name=queue, paused_at__isnull=True)
            changed = running.update(paused_at=at, paused_by=by, seq=F("seq") + 1)
            if changed:
                self._record_change(queue, by, paused=True)
        return bool(changed)

    @retried
    def resume_queue(self, queue: str, by: str | None) -> bool:
        with transaction.atomic(using=self.alias):
            paused = paused_rows(self.alias).filter(name=queue)
            changed = paused.update(paused_at=None, paused_by=None, seq=F("seq") + 1)
            if changed:
                self._record_change(queue, by, paused=False)
        return bool(changed)

    def _record_change(self, queue: str, by: str | None, *, paused: bool) -> None:
        """Announces a pause or its end to other processes; stores its audit row, if any."""
        notify(self.alias, self._threads.sender, Notice.QUEUES)
        if not self._options.audit:
            return
        before, after = ("active", "paused") if paused else ("paused", "active")
        states = QueueState.objects.using(self.alias)
        event = TaskEvent(
            execution_id=queue_id(queue),
            name=queue,
            seq=states.values_list("seq", flat=True).get(name=queue),
            from_status=before,
            to_status=after,
            attempt=0,
            at=storable(clock(self.alias)),
            actor=by,
            reason="queue_paused" if paused else "queue_resumed",
        )
        TaskEvent.objects.using(self.alias).bulk_create([event])

    @retried
    def queue_counts(self) -> list[QueueCounts]:
        unfinished = self._rows().filter(status__in=sorted(UNFINISHED)).order_by()
        counts = unfinished.values("queue").annotate(
            pending=Count("id", filter=Q(status=Status.PENDING)),
            running=Count("id", filter=Q(status=Status.RUNNING)),
            retrying=Count("id", filter=Q(status=Status.RETRYING)),
            oldest=Min("created_at", filter=Q(status=Status.PENDING, run_after__isnull=True)),
        )
        at = clock(self.alias)
        return [
            QueueCounts(
                name=row["queue"],
                pending=row["pending"],
                running=row["running"],
                retrying=row["retrying"],
                oldest_seconds=None
                if row["oldest"] is None
                else max((at - in_utc(row["oldest"])).total_seconds(), 0.0),
            )
            for row in counts
        ]

    @retried
    def waiting_in(self, queue: str, names: Collection[str], limit: int) -> list[UUID]:
        waiting = self._rows().filter(queue=queue, status__in=sorted(WAITING))
        waiting = waiting.filter(name__in=sorted(names))
        return list(waiting.order_by("-priority", "id").values_list("id", flat=True)[:limit])
