"""Rows that other processes change or leave behind: cancels, lost holders, unknown names."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from uuid import UUID

from django.db import transaction

from rail_async_tasks.ledger import audit
from rail_async_tasks.ledger.edges import FAIL_UNKNOWN
from rail_async_tasks.ledger.locks import unlocked
from rail_async_tasks.ledger.operations import Recover
from rail_async_tasks.ledger.orm.part import OrmPart
from rail_async_tasks.ledger.orm.reads import read_many
from rail_async_tasks.ledger.orm.threads import answer
from rail_async_tasks.ledger.records import Held, Recovery
from rail_async_tasks.ledger.updates import database_moment, values_of
from rail_async_tasks.models import TaskRuntime
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.states import WAITING, Status


class OrmRecoveries(OrmPart):
    """See `upkeep.Recoveries`."""

    async def cancels_for(self, runtime_id: UUID) -> Sequence[UUID]:
        held = self._rows().filter(
            runtime_id=runtime_id, status=Status.RUNNING, cancel_requested=True
        )
        return await self._threads.read(lambda: list(held.values_list("id", flat=True)))

    async def held_by(self, runtime_id: UUID) -> Sequence[Held]:
        held = self._rows().filter(runtime_id=runtime_id, status=Status.RUNNING)
        return await self._threads.read(
            lambda: [
                Held(row.id, row.token, row.cancel_requested, row.rerun_on_crash)
                for row in held.only("id", "token", "cancel_requested", "rerun_on_crash")
                if row.token is not None
            ]
        )

    async def recover(self, recovery: Recovery, limit: int) -> list[TaskSnapshot]:
        freed: list[TaskSnapshot] = await answer(
            self._threads.outcomes, lambda done: Recover(recovery, limit, done)
        )
        return freed

    async def unknown_names(self, known: Collection[str]) -> set[str]:
        return await self._threads.read(lambda: self._unknown_names(known))

    def _unknown_names(self, known: Collection[str]) -> set[str]:
        waiting = self._rows().filter(status__in=sorted(WAITING)).exclude(name__in=known)
        names = set(waiting.order_by().values_list("name", flat=True).distinct())
        if not names:
            return names
        alive = TaskRuntime.objects.using(self.alias).filter(dead=False)
        return names.difference(*alive.values_list("names", flat=True))

    async def fail_unknown(
        self, name: str, ttl: float | None, callback_hold: float | None, limit: int
    ) -> list[TaskSnapshot]:
        return await self._threads.run(lambda: self._fail_unknown(name, ttl, callback_hold, limit))

    def _fail_unknown(
        self, name: str, ttl: float | None, callback_hold: float | None, limit: int
    ) -> list[TaskSnapshot]:
        waiting = self._rows().filter(name=name, status__in=sorted(WAITING)).order_by("id")
        error = f"No process knows a task of the name {name!r}."
        failed = []
        with transaction.atomic(using=self.alias):
            for execution_id in list(unlocked(waiting).values_list("id", flat=True)[:limit]):
                at = database_moment(self.alias)
                changed = waiting.filter(id=execution_id).update(
                    **values_of(FAIL_UNKNOWN, at, error=error, ttl=ttl, callback_hold=callback_hold)
                )
                found = read_many(self.alias, [execution_id]) if changed else []
                self._record(partial(audit.of_unknown, found))
                failed += found
        return failed
