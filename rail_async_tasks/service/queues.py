"""Queues at run time: pause, resume, and what each of them holds."""

from __future__ import annotations

from datetime import datetime

import msgspec

from rail_async_tasks.backends import get_backend
from rail_async_tasks.conf import TaskSettings, get_settings
from rail_async_tasks.conf.problems import nearest
from rail_async_tasks.errors import InvalidArguments, UnknownQueue
from rail_async_tasks.hosting import process
from rail_async_tasks.hosting.submission import submission_for
from rail_async_tasks.ledger.port import Ledger
from rail_async_tasks.ledger.queue_states import QueueCounts
from rail_async_tasks.queue_limits import QueueLimits, queue_limits
from rail_async_tasks.registry import registry
from rail_async_tasks.service.request import MAX_ID
from rail_async_tasks.text import is_storable

# Who pauses or resumes where no name is given, as in the audit: the project's own code.
SYSTEM_NAME = "system"


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """A queue, and its unfinished executions at one moment.

    `concurrency` is per process; None: no limit of its own. `rate` is that of the settings, such as
    "10/s", for all processes together; None: no limit. `paused_at` is an aware time, None
    while the queue is not paused; `paused_by` is a user's id or another text. `pending` counts
    delayed executions too. `oldest_seconds` is the age of the oldest pending execution that is due;
    None without such a one.
    """

    name: str
    priority: int
    concurrency: int | None
    rate: str | None
    paused_at: datetime | None
    paused_by: str | None
    pending: int
    running: int
    retrying: int
    oldest_seconds: float | None

    @property
    def paused(self) -> bool:
        """Returns whether nothing of the queue starts."""
        return self.paused_at is not None


def pause(ledger: Ledger, queue: str, by: str | None) -> bool:
    """See `rail_async_tasks.queues.pause`."""
    settings = get_settings()
    _check_name(ledger, queue, settings)
    changed = ledger.pause_queue(queue, _name(by))
    if changed:
        _heed(ledger, queue, settings)
    return changed


def resume(ledger: Ledger, queue: str, by: str | None) -> bool:
    """See `rail_async_tasks.queues.resume`."""
    settings = get_settings()
    _check_name(ledger, queue, settings)
    changed = ledger.resume_queue(queue, _name(by))
    if changed:
        _heed(ledger, queue, settings)
    return changed


def list_queues(ledger: Ledger) -> list[Queue]:
    """See `rail_async_tasks.queues.list`."""
    limits = {it.name: it for it in queue_limits(get_settings(), registry)}
    counts = {it.name: it for it in ledger.queue_counts()}
    pauses = ledger.pauses()
    for name in counts.keys() | pauses.keys():
        limits.setdefault(name, QueueLimits(name))
    ordered = sorted(limits.values(), key=lambda it: (-it.priority, it.name))
    found = []
    for it in ordered:
        count, paused = counts.get(it.name, QueueCounts(name=it.name)), pauses.get(it.name)
        found.append(
            Queue(
                name=it.name,
                priority=it.priority,
                concurrency=it.concurrency,
                rate=None if it.rate is None else str(it.rate),
                paused_at=None if paused is None else paused.at,
                paused_by=None if paused is None else paused.by,
                pending=count.pending,
                running=count.running,
                retrying=count.retrying,
                oldest_seconds=count.oldest_seconds,
            )
        )
    return found


def _heed(ledger: Ledger, queue: str, settings: TaskSettings) -> None:
    """Has this process and the others heed the change at once; they find it by themselves too."""
    ledger.on_commit(lambda: process.bus().announce_queues())
    submission_for(get_backend(settings)).queue_changed(queue)


def _check_name(ledger: Ledger, queue: str, settings: TaskSettings) -> None:
    """Raises `UnknownQueue` for a queue without a declaration, a setting, a row or a pause."""
    known = {it.name for it in queue_limits(settings, registry)}
    if isinstance(queue, str) and queue in known:
        return
    known |= {it.name for it in ledger.queue_counts()} | ledger.pauses().keys()
    if not isinstance(queue, str) or queue not in known:
        meant = nearest(queue, sorted(known))
        hint = "" if meant is None else f" Did you mean {meant!r}?"
        raise UnknownQueue(
            f"There is no queue {queue!r:.100}.{hint} Known are {', '.join(sorted(known))}."
        )


def _name(by: str | None) -> str:
    if by is None:
        return SYSTEM_NAME
    if not (isinstance(by, str) and is_storable(by) and len(by) <= MAX_ID):
        raise InvalidArguments(
            f"by must be a string of at most {MAX_ID} characters without NUL and unpaired"
            f" surrogates, not {str(by)!a:.100}."
        )
    return by
