"""The tasks `rail_async_tasks.bulk_retry` and `.bulk_cancel`: a change of all that fits a filter.

They are coroutines, whose work is done in threads: a process that knows coroutines alone makes
fewer claims. Only the dashboard starts them. Each checks its owner's right to change every task at
its start and before each page of tasks, so that neither a retry of it nor a right that was taken
away changes anything. A second run, after a crash too, changes nothing twice: a cancelled task is
final, and a task is retried only where it has no retry, which is looked up while its row is locked.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import transaction
from django.db.models import F

from rail_async_tasks import service
from rail_async_tasks.access import CHANGE_PERMISSION, Viewer, find_user
from rail_async_tasks.dashboard.bulk_choice import (
    BULK_CANCEL,
    BULK_RETRY,
    CANCEL,
    RETRY,
    BulkChange,
    Choice,
    choose,
    retried,
)
from rail_async_tasks.dashboard.query import WrongQuery
from rail_async_tasks.dashboard.render import Refused
from rail_async_tasks.dashboard.tables import database
from rail_async_tasks.declare import task
from rail_async_tasks.errors import (
    AlreadyFinal,
    Fail,
    QueueFull,
    RateLimited,
    TaskError,
    TaskNotFound,
)
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.text import noun_for

# Different refusals that a result names, and tasks that it names for each.
MOST_REASONS: Final = 20
MOST_NAMED: Final = 5
# The longest wait (seconds) before a refused start is tried again.
LONGEST_WAIT: Final = 5.0


@task(name=BULK_RETRY, track_progress=True)
async def bulk_retry(info: Any, q: str, before: datetime) -> dict[str, Any]:
    """Run again each finished task that fits the filter `q` and ended before `before`.

    A filter without a state chooses the failed ones. Waits where a limit refuses a start.
    """
    return await _Run(info, RETRY, _retry).all(q, before)


@task(name=BULK_CANCEL, track_progress=True)
async def bulk_cancel(info: Any, q: str, before: datetime) -> dict[str, Any]:
    """Cancel each unfinished task that fits the filter `q` and was created before `before`."""
    return await _Run(info, CANCEL, _cancel).all(q, before)


class _PassedOver(Exception):
    """The task needs no change: it has a retry already, or has ended."""


class _Run:
    """One run of a bulk change. Its memory is that of one page of tasks."""

    def __init__(
        self, info: Any, change: BulkChange, do: Callable[[str, Viewer, UUID], None]
    ) -> None:
        self._task, self._user = info.context.task, info.context.user
        self._tenant_id = info.context.tenant_id
        self._change, self._do = change, do
        self.changed, self.passed_over, self.refused = 0, 0, 0
        self._reasons: Counter[str] = Counter()
        self._named: dict[str, list[str]] = {}

    async def all(self, q: str, before: datetime) -> dict[str, Any]:
        """Changes every task of the choice; returns what was done.

        The result has the numbers `changed`, `passed_over`, `refused`, and for each reason of a
        refusal its number and some ids.
        """
        await sync_to_async(self._viewer)()
        choice = await sync_to_async(_chosen)(self._change, q, before)
        total = await sync_to_async(choice.total)()
        self._report(total)
        pages = choice.pages()
        while (tasks := await sync_to_async(_next)(pages)) is not None:
            viewer = await sync_to_async(self._viewer)()
            for it in tasks:
                self._task.raise_if_cancelled()
                await self._one(choice.alias, viewer, it.id)
                self._report(total)
        return {
            "changed": self.changed,
            "passed_over": self.passed_over,
            "refused": self.refused,
            "reasons": [
                {"message": text, "tasks": number, "some": self._named[text]}
                for text, number in self._reasons.most_common()
            ],
        }

    def _viewer(self) -> Viewer:
        """Returns the rights of the owner as they are now. Raises `Fail` without them."""
        user = find_user(str(self._user.pk)) if self._user.is_authenticated else None
        viewer = Viewer.for_user(user, self._tenant_id)
        if not viewer.changes_all:
            raise Fail(
                f"A bulk change needs an owner with the permission {CHANGE_PERMISSION}; this one"
                " has it no longer. What was changed before stays changed."
            )
        return viewer

    async def _one(self, alias: str, viewer: Viewer, task_id: UUID) -> None:
        while True:
            try:
                await sync_to_async(self._do)(alias, viewer, task_id)
            except (QueueFull, RateLimited) as error:
                # The limits of starts hold for these too: it waits for its turn.
                await asyncio.sleep(min(max(error.retry_after, 0.1), LONGEST_WAIT))
                continue
            except (_PassedOver, AlreadyFinal, TaskNotFound):
                self.passed_over += 1
            except TaskError as error:
                self._refuse(task_id, error.message)
            else:
                self.changed += 1
            return

    def _refuse(self, task_id: UUID, message: str) -> None:
        self.refused += 1
        if message not in self._reasons and len(self._reasons) >= MOST_REASONS:
            message = "other reasons"
        self._reasons[message] += 1
        named = self._named.setdefault(message, [])
        if len(named) < MOST_NAMED:
            named.append(str(task_id))

    def _report(self, total: int) -> None:
        done = self.changed + self.passed_over + self.refused
        percent = 0.0 if total == 0 else min(done / total, 1.0) * 100
        rest = f", {self.passed_over} passed over" if self.passed_over else ""
        refused = f", {self.refused} refused" if self.refused else ""
        of = f" of {total}" if total >= done else ""
        noun = noun_for(max(total, done), "task")
        self._task.update_progress(
            percent, f"{self.changed}{of} {noun} {self._change.participle}{rest}{refused}"
        )


def _chosen(change: BulkChange, q: str, before: datetime) -> Choice:
    try:
        return choose(database(), change, q, before)
    except (WrongQuery, Refused) as error:
        raise Fail(str(error)) from error


def _next(pages: Iterator[list[TaskSnapshot]]) -> list[TaskSnapshot] | None:
    return next(pages, None)


def _cancel(alias: str, viewer: Viewer, task_id: UUID) -> None:
    before = TaskExecution.objects.using(alias).filter(id=task_id, cancel_requested=True)
    if before.exists():
        raise _PassedOver
    service.cancel(viewer, task_id)


def _retry(alias: str, viewer: Viewer, task_id: UUID) -> None:
    with transaction.atomic(using=alias):
        # Locks the row by an UPDATE that changes nothing: two bulk retries of one task come one
        # after the other. A SELECT would lock nothing on SQLite.
        row = TaskExecution.objects.using(alias).filter(id=task_id)
        if not row.update(priority=F("priority")) or retried(alias, [task_id]):
            raise _PassedOver
        new = service.retry(viewer, task_id)
        if new.parent_id != task_id:  # a unique task, of which one waits
            raise TaskError("An unfinished task with the same unique key waits already.")
