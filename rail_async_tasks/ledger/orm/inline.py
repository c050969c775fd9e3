"""An attempt that runs inline: its claim, progress and outcome in the caller's transaction."""

from __future__ import annotations

from contextlib import nullcontext
from uuid import UUID

from django.db import connections, transaction

from rail_async_tasks.conf.model import RateLimit
from rail_async_tasks.ledger import audit, rates
from rail_async_tasks.ledger.edges import CLAIM
from rail_async_tasks.ledger.orm.isolation import retried
from rail_async_tasks.ledger.orm.part import OrmPart
from rail_async_tasks.ledger.orm.queue_states import paused_rows
from rail_async_tasks.ledger.orm.reads import read_arguments, read_carried, read_one
from rail_async_tasks.ledger.records import Claimed, Outcome, Progress, Settled
from rail_async_tasks.ledger.updates import database_moment, values_of
from rail_async_tasks.states import WAITING


class OrmInlineAttempts(OrmPart):
    """See `port.InlineAttempts`."""

    @retried
    def claim_here(
        self, execution_id: UUID, runtime_id: UUID, token: UUID, rate: RateLimit | None = None
    ) -> Claimed | None:
        waiting = self._rows().filter(id=execution_id, status__in=sorted(WAITING))
        waiting = waiting.exclude(queue__in=paused_rows(self.alias).values("name"))
        at = database_moment(self.alias)
        with transaction.atomic(using=self.alias):
            changed = waiting.update(**values_of(CLAIM, at, runtime_id=runtime_id, token=token))
            snapshot = read_one(self.alias, execution_id)
            if not changed or snapshot is None:
                return None
            if rate is not None:
                taken = rates.take(self.alias, snapshot.queue, rate, 1)
                if taken is None or not taken.count:
                    transaction.set_rollback(True, using=self.alias)
                    return None
                taken.used(1)
            arguments = read_arguments(self.alias, execution_id)
            language, *trace = read_carried(self.alias, execution_id)
            claimed = Claimed(snapshot, arguments or "{}", token, language, False, *trace)
            self._record(lambda: audit.of_claims([claimed], runtime_id))
        return claimed

    @retried
    def settle_here(self, outcome: Outcome) -> Settled | None:
        connection = connections[self.alias]
        with transaction.atomic(using=self.alias), connection.cursor() as cursor:
            if connection.features.has_select_for_update:
                # This thread waits for the transaction that has the row locked: nothing would
                # settle it later.
                no_key = connection.features.has_select_for_no_key_update
                mine = self._rows().select_for_update(no_key=no_key).filter(id=outcome.id)
                list(mine.only("id"))
            return self._batch().settle(cursor, [outcome])[0]

    @retried
    def progress_here(self, progress: Progress) -> None:
        batch = self._batch()
        in_transaction = transaction.atomic(using=self.alias) if batch.by_row else nullcontext()
        with in_transaction, connections[self.alias].cursor() as cursor:
            batch.progress(cursor, [progress], set())
