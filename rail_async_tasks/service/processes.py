"""The processes that run tasks, from their rows: their state, their lease and what they run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from django.db.models import Count

from rail_async_tasks.conf import IN_PROCESS_BACKENDS, TaskSettings
from rail_async_tasks.ledger.records import INLINE_HOLDER
from rail_async_tasks.ledger.rows import clock, in_utc
from rail_async_tasks.models import TaskExecution, TaskRuntime
from rail_async_tasks.roles import Role
from rail_async_tasks.states import Status


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """A process that runs tasks, or has run some in the last day. Times are aware, in UTC.

    `state` is `alive`; `silent` once its lease has lapsed, so that others are about to take its
    tasks; `dead` when it has ended or was found dead. `ended_at` is None for one that did not end
    by itself. `role` is `web` or `worker`; None for a process of a version that stored none.
    `running` counts executions. `lease_seconds` are left of the lease, by the database's clock.
    """

    id: UUID
    place: str
    role: str | None
    state: str
    running: int
    names: Sequence[str]
    started_at: datetime
    renewed_at: datetime
    lapses_at: datetime
    ended_at: datetime | None
    lease_seconds: float
    lag_seconds: float | None
    leaked: int | None

    @property
    def up_seconds(self) -> float:
        """Seconds from its start to its last sign of life."""
        return (self.renewed_at - self.started_at).total_seconds()


class Processes(msgspec.Struct, frozen=True, kw_only=True):
    """All processes at one moment.

    `living` are alive or silent, the longest running first; `dead` the last ones first. `inline`
    counts executions that run in their callers, under the `sync` backend.
    """

    living: Sequence[Process]
    dead: Sequence[Process]
    inline: int


def read_processes(alias: str, *, most_dead: int | None = None) -> Processes:
    """Returns the processes, at most `most_dead` of the dead ones. Blocks."""
    at = clock(alias)
    running = TaskExecution.objects.using(alias).filter(status=Status.RUNNING).order_by()
    counts = dict(running.values_list("runtime_id").annotate(Count("id")))
    rows = TaskRuntime.objects.using(alias)
    living = rows.filter(dead=False).order_by("started_at", "id")
    dead = rows.filter(dead=True).order_by("-renewed_at", "-id")[:most_dead]
    return Processes(
        living=[_process(it, counts, at) for it in living],
        dead=[_process(it, counts, at) for it in dead],
        inline=counts.get(INLINE_HOLDER, 0),
    )


def runners(processes: Iterable[Process], settings: TaskSettings) -> list[Process]:
    """Returns the live processes that run tasks: all of them, or a broker's workers."""
    alive = [it for it in processes if it.state == "alive"]
    if settings.backend in IN_PROCESS_BACKENDS:
        return alive
    return [it for it in alive if it.role != Role.WEB]


def _process(row: TaskRuntime, counts: Mapping[UUID | None, int], at: datetime) -> Process:
    lapses_at = in_utc(row.lapses_at)
    left = (lapses_at - at).total_seconds()
    return Process(
        id=row.id,
        place=row.place,
        role=row.role,
        state="dead" if row.dead else "alive" if left > 0 else "silent",
        running=counts.get(row.id, 0),
        names=row.names,
        started_at=in_utc(row.started_at),
        renewed_at=in_utc(row.renewed_at),
        lapses_at=lapses_at,
        ended_at=in_utc(row.ended_at),
        lease_seconds=max(left, 0.0),
        lag_seconds=row.lag_seconds,
        leaked=row.leaked,
    )
