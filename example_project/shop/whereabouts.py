"""The process that ran each task, from the audit that `make demo-distributed` switches on.

The row of a finished task no longer says who held it. The audit does: the claim of each attempt is
noted with the process that made it, in the transaction of the claim itself. So this is right after
a retry, and after a worker was killed, and no task needs a line of code for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import strawberry

from example_project.shop.models import Process
from rail_async_tasks.models import TaskEvent, TaskRuntime

MOST = 500


@strawberry.type(description="Where the newest attempt of a task has run.")
class Whereabouts:
    task_id: strawberry.ID
    attempt: int
    process: str | None = strawberry.field(description="As `worker 1`, if the demo has started it.")
    host: str
    pid: int


async def where_they_ran(user: Any, ids: Sequence[UUID]) -> list[Whereabouts]:
    """Return the known places of tasks that the user may see; of `MOST` tasks at once."""
    claims = TaskEvent.objects.filter(
        execution_id__in=ids[:MOST], reason="claimed", actor__startswith="runtime:"
    )
    # The package's rule: one's own, or all with the right to.
    if not await user.ahas_perm("rail_async_tasks.view_taskexecution"):
        claims = claims.filter(owner_id=str(user.pk))
    newest = {it.execution_id: it async for it in claims.order_by("seq")}
    holders = {id: UUID(str(it.actor).removeprefix("runtime:")) for id, it in newest.items()}
    runtimes = await TaskRuntime.objects.ain_bulk(set(holders.values()))
    places = {it.place for it in runtimes.values()}
    processes = [it async for it in Process.objects.filter(place__in=places)]
    found = []
    for id, claim in newest.items():
        runtime = runtimes.get(holders[id])  # its row is kept for a day after its end
        if runtime is not None:
            host, _, pid = runtime.place.rpartition(" ")
            found.append(
                Whereabouts(
                    task_id=strawberry.ID(str(id)),
                    attempt=claim.attempt,
                    process=_name(runtime, processes),
                    host=host,
                    pid=int(pid),
                )
            )
    return found


def _name(runtime: TaskRuntime, newest_first: Sequence[Process]) -> str | None:
    """The process that this runtime lived in. A system gives the same process id again one day."""
    return next(
        (
            it.name
            for it in newest_first
            if it.place == runtime.place and it.started_at <= runtime.started_at
        ),
        None,
    )
