"""What every edge calls: enqueue, get, list, cancel, retry, watch. Who may, then what.

The async functions are for code on an event loop; their twins without the `a` are for threads.
All raise subclasses of `TaskError`.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final, TypeVar
from uuid import UUID

import msgspec
from asgiref.sync import sync_to_async
from django.conf import settings as django_settings
from django.utils import timezone

from rail_async_tasks import backends
from rail_async_tasks.access import SYSTEM, Viewer, may_change, may_see
from rail_async_tasks.backends.port import Backend
from rail_async_tasks.conf import TaskSettings, get_settings
from rail_async_tasks.definition import TaskDefinition, registry
from rail_async_tasks.errors import (
    MAX_DELAY,
    AlreadyFinal,
    BackendUnavailable,
    InvalidArguments,
    NotFinal,
    TaskNotFound,
    TasksDisabled,
    UnknownQueue,
    is_delay,
)
from rail_async_tasks.hooks import contained
from rail_async_tasks.hosting import process as host
from rail_async_tasks.hosting import server
from rail_async_tasks.hosting.submission import submission_for
from rail_async_tasks.ids import new_id, parse_id
from rail_async_tasks.ledger.locks import delay_after
from rail_async_tasks.ledger.port import Ledger
from rail_async_tasks.ledger.records import NewExecution, Page, RowLocked
from rail_async_tasks.ledger.snapshots import as_created
from rail_async_tasks.runtime.admission import Entry, limits_for
from rail_async_tasks.runtime.attempts.options import resolve_options
from rail_async_tasks.runtime.observers import observers_for
from rail_async_tasks.runtime.unique import unique_key
from rail_async_tasks.snapshot import TaskSnapshot, owner_topic, task_topic
from rail_async_tasks.states import Status
from rail_async_tasks.text import is_storable

T = TypeVar("T")

MAX_PAGE = 500
MAX_ID = 255  # characters: the width of the columns
MAX_INT = 2**31 - 1
# The most, in seconds, that the clocks of this machine and of the ledger are thought to differ.
MAX_SKEW = 86400.0
# How long a cancel waits for another transaction that holds the task's row, in seconds.
LOCK_TIMEOUT = 30.0

# How far back (seconds) a new watcher of an owner's tasks reads which ones have ended, so as not to
# yield them. Further than a re-read looks back, and longer than the news of an end take to arrive.
PASSED_OVER = 300.0

# Whether the caller may start this task with these arguments; raises where they may not.
Permit = Callable[[TaskDefinition, dict[str, Any]], Awaitable[None]]


class EnqueueOptions(msgspec.Struct, frozen=True):
    """How one execution differs from its task's declaration. `delay` is in seconds.

    `run_after` is an aware time; a naive one is in the current time zone, or in `TIME_ZONE` where
    `USE_TZ` is off. It and `delay` exclude each other. While a task with the same `unique_key` is
    unfinished, that one is returned.
    """

    queue: str | None = None
    priority: int | None = None
    run_after: datetime | None = None
    delay: float | timedelta | None = None
    unique_key: str | None = None
    owner_id: str | None = None
    tenant_id: str | None = None
    parent_id: UUID | None = None
    # Who caused it, for the audit: a user's id; by default the project's own code.
    actor: str | None = None
    # Started by a caller who did not say who they are: `rate_limit` holds for those together.
    anonymous: bool = False


AS_DECLARED: Final = EnqueueOptions()


# --- enqueue -------------------------------------------------------------------------------------


async def aenqueue(
    definition: TaskDefinition,
    arguments: Mapping[str, Any],
    options: EnqueueOptions = AS_DECLARED,
) -> TaskSnapshot:
    """Stores an execution and returns it as it stands at its creation; it runs in a while.

    Raises:
        InvalidArguments, UnknownQueue, TasksDisabled, QueueFull, RateLimited, BackendUnavailable:
            nothing was stored.
    """
    settings = _enabled()
    new = _new(definition, definition.encode(arguments), options, settings)
    return await _astore(new, settings, anonymous=options.anonymous)


def enqueue(
    definition: TaskDefinition,
    arguments: Mapping[str, Any],
    options: EnqueueOptions = AS_DECLARED,
) -> TaskSnapshot:
    """`aenqueue` for code that is not async. In a transaction the row is part of it.

    Raises:
        RuntimeError: called on an event loop, which it would block.
    """
    settings = _enabled()
    if asyncio._get_running_loop() is not None:
        raise RuntimeError(
            f"{definition.name}.enqueue() was called on an event loop, which it would block:"
            f" write `await {definition.name}.aenqueue(...)`."
        )
    new = _new(definition, definition.encode(arguments), options, settings)
    return _store(new, settings, anonymous=options.anonymous)


async def _astore(
    new: NewExecution, settings: TaskSettings, *, anonymous: bool = False
) -> TaskSnapshot:
    if host.is_short_lived(asyncio.get_running_loop()):
        # `async_to_sync` is above us, and may be inside a transaction of its thread.
        return await sync_to_async(contained(_store))(new, settings, anonymous=anonymous)
    backend = backends.get_backend(settings)
    limits = limits_for(settings, new.owner_id, anonymous=anonymous, inline=backend.inline)
    if limits is None:
        return await submission_for(backend).asubmit(new)
    admission = host.admission()
    with Entry(admission, new.id, limits) as entry:
        if admission.needs_ledger(limits):
            await _on_ledger(lambda ledger: entry.check())
        else:
            entry.let_in()
        return await submission_for(backend).asubmit(new)


def _store(new: NewExecution, settings: TaskSettings, *, anonymous: bool = False) -> TaskSnapshot:
    backend = backends.get_backend(settings)
    limits = limits_for(settings, new.owner_id, anonymous=anonymous, inline=backend.inline)
    if limits is None:
        return _submit(new, backend)
    with Entry(host.admission(), new.id, limits) as entry:
        entry.check()
        return _submit(new, backend)


def _submit(new: NewExecution, backend: Backend) -> TaskSnapshot:
    ledger = host.ledger()
    if backend.inline or not ledger.in_transaction():
        return submission_for(backend).submit(new)
    created = ledger.create_here(new)
    if created.existing is not None:
        return created.existing
    ledger.on_commit(lambda: submission_for(backend).arrived(new, created))
    return as_created(new, created)


def _enabled() -> TaskSettings:
    settings = get_settings()
    if not settings.enabled:
        raise TasksDisabled
    return settings


def _new(
    definition: TaskDefinition, arguments: bytes, options: EnqueueOptions, settings: TaskSettings
) -> NewExecution:
    if len(arguments) > settings.max_args_bytes:
        raise InvalidArguments(
            f"The arguments of {definition.name} are {len(arguments)} bytes of JSON, over the limit"
            f" of {settings.max_args_bytes} (max_args_bytes). Pass an id and read the data there."
        )
    _check_ids(options)
    defaults = resolve_options(definition, settings)
    queue = defaults.queue if options.queue is None else options.queue
    if options.queue is not None:
        _check_queue(options.queue, settings)
    return NewExecution(
        id=new_id(),
        name=definition.name,
        queue=queue,
        priority=_priority(options, defaults.priority),
        arguments=definition.stored(arguments),
        max_retries=defaults.retry.max_retries,
        rerun_on_crash=definition.options.rerun_on_crash,
        actor=options.actor or ("anonymous" if options.anonymous else "system"),
        owner_id=options.owner_id,
        tenant_id=options.tenant_id,
        parent_id=options.parent_id,
        unique_key=unique_key(
            definition,
            arguments,
            given=options.unique_key,
            tenant_id=options.tenant_id,
            owner_id=options.owner_id,
        ),
        delay=_delay(options),
        run_after=_run_after(options),
    )


def _check_queue(queue: str, settings: TaskSettings) -> None:
    known = settings.queues.keys() | registry.queues()
    if not isinstance(queue, str) or queue not in known:
        raise UnknownQueue(
            f"There is no queue {queue!r}. Known are {', '.join(sorted(known))}; add others to the"
            ' "queues" setting.'
        )


def _check_ids(options: EnqueueOptions) -> None:
    for what, text, limit in (
        ("owner", options.owner_id, MAX_ID),
        ("tenant_id", options.tenant_id, MAX_ID),
        ("unique_key", options.unique_key, math.inf),  # only its hash is stored
    ):
        if text is not None and not (
            isinstance(text, str) and is_storable(text) and len(text) <= limit
        ):
            raise InvalidArguments(f"{what} is text that a database takes, not {str(text)!a:.100}.")


def _priority(options: EnqueueOptions, default: int) -> int:
    priority = default if options.priority is None else options.priority
    if type(priority) is not int or abs(priority) > MAX_INT:
        raise InvalidArguments(f"priority is a whole number of 32 bits, not {priority!r:.100}.")
    return priority


def _delay(options: EnqueueOptions) -> float | None:
    delay = options.delay
    if delay is None:
        return None
    if options.run_after is not None:
        raise InvalidArguments("Give either delay or run_after, not both.")
    seconds = delay.total_seconds() if isinstance(delay, timedelta) else delay
    if not is_delay(seconds):
        raise InvalidArguments(f"delay is seconds, 0 to 100 years, not {delay!r}.")
    return float(seconds) or None


def _run_after(options: EnqueueOptions) -> datetime | None:
    run_after = options.run_after
    if run_after is None:
        return None
    if not isinstance(run_after, datetime):
        raise InvalidArguments(f"run_after is a datetime, not {run_after!r}.")
    try:
        if timezone.is_naive(run_after):
            run_after = timezone.make_aware(run_after, _naive_zone())
        # Not `timezone.now()`, which is naive where USE_TZ is off.
        seconds = (run_after - datetime.now(UTC)).total_seconds()
    except (OverflowError, ValueError):
        # In UTC the time is before year 1 or after year 9999.
        seconds = math.copysign(math.inf, run_after.year - 2000)
    if seconds > MAX_DELAY:
        raise InvalidArguments(f"run_after is at most 100 years away, not {run_after!r}.")
    # One that has just passed by this machine's clock may be yet to come by the ledger's.
    return None if seconds < -MAX_SKEW else run_after.astimezone(UTC)


def _naive_zone() -> tzinfo:
    """Return the zone of naive times, as Django defines it."""
    if django_settings.USE_TZ:
        return timezone.get_current_timezone()
    return timezone.get_default_timezone()


# --- read ----------------------------------------------------------------------------------------


async def aget(viewer: Viewer, task_id: str | UUID) -> TaskSnapshot:
    """The task as it stands.

    Raises:
        TaskNotFound: there is none, it is not the viewer's to see, or the id is no id.
    """
    return _seen(viewer, await _on_ledger(lambda ledger: _read(ledger, task_id)))


def get(viewer: Viewer, task_id: str | UUID) -> TaskSnapshot:
    """`aget` for code that is not async."""
    return _seen(viewer, _read(host.ledger(), task_id))


async def alist(
    viewer: Viewer,
    *,
    status: str | None = None,
    name: str | None = None,
    queue: str | None = None,
    limit: int = 50,
    after: str | UUID | None = None,
) -> list[TaskSnapshot]:
    """The viewer's tasks, newest first; every task for who may see them all.

    Args:
        limit: 1 to 500.
        after: the id of the last task of the page before.

    Raises:
        InvalidArguments: an unknown status, a limit out of range, a cursor that is no id.
    """
    page = _page(viewer, status=status, name=name, queue=queue, limit=limit, after=after)
    return [] if page is None else await _on_ledger(lambda ledger: _fresh(ledger.page(page)))


def list_(
    viewer: Viewer,
    *,
    status: str | None = None,
    name: str | None = None,
    queue: str | None = None,
    limit: int = 50,
    after: str | UUID | None = None,
) -> list[TaskSnapshot]:
    """`alist` for code that is not async."""
    page = _page(viewer, status=status, name=name, queue=queue, limit=limit, after=after)
    return [] if page is None else _fresh(host.ledger().page(page))


def _page(
    viewer: Viewer,
    *,
    status: str | None,
    name: str | None,
    queue: str | None,
    limit: int,
    after: str | UUID | None,
) -> Page | None:
    """What to read; None for who has no tasks to list."""
    _enabled()
    if status is not None and status not in set(Status):
        raise InvalidArguments(f"There is no status {status!r}. Known are {', '.join(Status)}.")
    if not 1 <= limit <= MAX_PAGE:
        raise InvalidArguments(f"limit is a number from 1 to {MAX_PAGE}, not {limit}.")
    for what, text in (("name", name), ("queue", queue)):
        if text is not None and not is_storable(text):
            raise InvalidArguments(
                f"{what} has a character that no {what} has: NUL, or half a pair."
            )
    cursor = None if after is None else parse_id(after)
    if after is not None and cursor is None:
        raise InvalidArguments("after is the id of a task: the last one of the page before.")
    if viewer.is_anonymous and not viewer.sees_all:
        return None
    return Page(
        limit=limit,
        owner_id=viewer.user_id,
        tenant_id=viewer.tenant_id,
        everyone=viewer.sees_all,
        status=status,
        name=name,
        queue=queue,
        after=cursor,
    )


def _read(ledger: Ledger, task_id: str | UUID) -> TaskSnapshot | None:
    _enabled()
    execution_id = parse_id(task_id)
    snapshot = None if execution_id is None else ledger.get(execution_id)
    return None if snapshot is None else _freshest(snapshot)


def _seen(viewer: Viewer, snapshot: TaskSnapshot | None) -> TaskSnapshot:
    if snapshot is None or not may_see(viewer, snapshot, get_settings().anonymous_access):
        raise TaskNotFound
    return snapshot


def _freshest(snapshot: TaskSnapshot) -> TaskSnapshot:
    """The snapshot, or the newer one of an attempt here: progress is saved twice a second."""
    runtime = host.current()
    attempt = None if runtime is None else runtime.attempts.get(snapshot.id)
    if attempt is not None and attempt.snapshot.version > snapshot.version:
        return attempt.snapshot
    return snapshot


def _fresh(snapshots: list[TaskSnapshot]) -> list[TaskSnapshot]:
    return [_freshest(snapshot) for snapshot in snapshots]


async def _on_ledger(call: Callable[[Ledger], T]) -> T:
    ledger = host.ledger()
    if not ledger.blocking:
        return call(ledger)
    return await sync_to_async(contained(call))(ledger)  # a router of the project's


# --- cancel and retry ----------------------------------------------------------------------------


async def acancel(viewer: Viewer, task_id: str | UUID) -> TaskSnapshot:
    """Cancels a task: one that waits never runs, one that runs is asked to end.

    Raises:
        TaskNotFound: as `aget`, or the task is not the viewer's to change.
        AlreadyFinal: it has ended, perhaps a moment ago.
    """
    deadline = time.monotonic() + LOCK_TIMEOUT
    looks = 0
    while True:
        # The thread may be shared by many: the wait for a lock is here.
        try:
            return await _on_ledger(lambda ledger: _cancel(ledger, viewer, task_id, wait=False))
        except RowLocked as error:
            if time.monotonic() > deadline:
                raise BackendUnavailable(
                    f"The task can't be cancelled: another transaction has held its row for"
                    f" {LOCK_TIMEOUT:g} s. Try again once that has ended."
                ) from error
        looks += 1
        await asyncio.sleep(delay_after(looks))


def cancel(viewer: Viewer, task_id: str | UUID) -> TaskSnapshot:
    """`acancel` for code that is not async."""
    return _cancel(host.ledger(), viewer, task_id)


def _cancel(
    ledger: Ledger, viewer: Viewer, task_id: str | UUID, *, wait: bool = True
) -> TaskSnapshot:
    settings = get_settings()
    snapshot = _changeable(ledger, viewer, task_id)
    cancelled = ledger.cancel(snapshot.id, settings.result_ttl_seconds, _actor(viewer), wait=wait)
    if cancelled is None:
        raise TaskNotFound
    if not cancelled.changed:
        raise AlreadyFinal
    after = cancelled.snapshot
    # Not less progress than a read has shown; looked up before the attempt is told to end.
    fresh = _freshest(after)
    ledger.on_commit(lambda: _tell_cancelled(after, settings))
    if fresh is after:
        return after
    return msgspec.structs.replace(fresh, cancel_requested=True, updated_at=after.updated_at)


def _tell_cancelled(snapshot: TaskSnapshot, settings: TaskSettings) -> None:
    if settings.emit_subscriptions:
        host.bus().publish(snapshot)
    if snapshot.is_final:
        observers_for(settings).ended(snapshot, None, None)
    else:
        submission_for(backends.get_backend(settings)).cancel(snapshot.id)


async def aretry(
    viewer: Viewer, task_id: str | UUID, *, permit: Permit | None = None
) -> TaskSnapshot:
    """Runs a finished task again, as a new one whose `parent_id` it is.

    `permit` is asked before anything is stored, and raises where the start is refused.

    Raises:
        TaskNotFound: as `acancel`.
        NotFinal: it has not ended.
        InvalidArguments: its task does not exist any more, or takes other arguments now.
    """
    settings = _enabled()
    definition, arguments, new = await _on_ledger(
        lambda ledger: _again(ledger, viewer, task_id, settings)
    )
    if permit is not None:
        await permit(definition, arguments)
    return await _astore(new, settings, anonymous=viewer.is_anonymous and viewer != SYSTEM)


def retry(viewer: Viewer, task_id: str | UUID) -> TaskSnapshot:
    """`aretry` for code that is not async."""
    settings = _enabled()
    _, _, new = _again(host.ledger(), viewer, task_id, settings)
    return _store(new, settings, anonymous=viewer.is_anonymous and viewer != SYSTEM)


def _again(
    ledger: Ledger, viewer: Viewer, task_id: str | UUID, settings: TaskSettings
) -> tuple[TaskDefinition, dict[str, Any], NewExecution]:
    before = _changeable(ledger, viewer, task_id)
    if not before.is_final:
        raise NotFinal
    definition = registry.get(before.name)
    if definition is None:
        raise InvalidArguments(f"The task {before.name} does not exist any more.")
    arguments = ledger.arguments(before.id)
    if arguments is None:
        raise TaskNotFound
    plain = definition.plain(arguments)
    values = definition.codec.decode(plain)  # refused here rather than by a failed row
    options = EnqueueOptions(
        priority=before.priority,
        owner_id=before.owner_id,
        tenant_id=before.tenant_id,
        parent_id=before.id,
        actor=_actor(viewer),
    )
    new = _new(definition, plain.encode() if isinstance(plain, str) else plain, options, settings)
    return definition, values, msgspec.structs.replace(new, queue=before.queue)


def _actor(viewer: Viewer) -> str:
    if viewer.user_id is not None:
        return viewer.user_id
    return "system" if viewer == SYSTEM else "anonymous"


def _changeable(ledger: Ledger, viewer: Viewer, task_id: str | UUID) -> TaskSnapshot:
    """The task, if the viewer may change it; one that they may not is as good as missing."""
    snapshot = _seen(viewer, _read(ledger, task_id))
    if not may_change(viewer, snapshot, get_settings().anonymous_access):
        raise TaskNotFound
    return snapshot


# --- watch ---------------------------------------------------------------------------------------


async def watch(viewer: Viewer, task_id: str | UUID) -> AsyncGenerator[TaskSnapshot, None]:
    """Yields the task as it stands, then its changes in order, and ends after the final one.

    `(seq, step)` only grows; a slow reader may miss a change in between, never the final one.

    Raises:
        TaskNotFound: as `aget`, before anything is yielded.
    """
    _enabled()
    _refuse_if_going_away()
    execution_id = parse_id(task_id)
    if execution_id is None:
        raise TaskNotFound
    # Subscribed before the row is read: what changes in between is not lost.
    async with host.bus().subscribe(task_topic(execution_id)) as mailbox:
        snapshot = await aget(viewer, execution_id)
        yield snapshot
        if snapshot.is_final:
            return
        version = snapshot.version
        async for snapshot in mailbox:
            if snapshot.version <= version:
                continue
            version = snapshot.version
            yield snapshot
            if snapshot.is_final:
                return


async def watch_mine(viewer: Viewer) -> AsyncGenerator[TaskSnapshot, None]:
    """Yields the viewer's unfinished tasks, oldest first, then every change of a task of theirs.

    A task that ended before the call is never yielded.
    """
    _enabled()
    _refuse_if_going_away()
    owner_id = viewer.user_id
    if owner_id is None:
        return
    seen = _Seen()
    # What is read again for all watchers goes further back than this one. Read before the bus is
    # joined: an end that comes after this read is yielded, whether an event or a re-read brings it.
    seen.pass_over(
        await _on_ledger(
            lambda ledger: ledger.ended_lately(owner_id, viewer.tenant_id, PASSED_OVER)
        )
    )
    async with host.bus().subscribe(owner_topic(owner_id, viewer.tenant_id)) as mailbox:
        for snapshot in await _unfinished(viewer):
            if seen.advances(snapshot):
                yield snapshot
        async for snapshot in mailbox:
            if seen.advances(snapshot):
                yield snapshot


def _refuse_if_going_away() -> None:
    """A stream that joined now would hold up the end of the process."""
    if server.is_going_away():
        raise BackendUnavailable("This process is shutting down. Try again.")


async def _unfinished(viewer: Viewer) -> list[TaskSnapshot]:
    """The newest unfinished tasks of the viewer, oldest first."""
    page = Page(
        limit=MAX_PAGE, owner_id=viewer.user_id, tenant_id=viewer.tenant_id, unfinished=True
    )
    newest_first = await _on_ledger(lambda ledger: _fresh(ledger.page(page)))
    return newest_first[::-1]


class _Seen:
    """The versions that a watcher of many tasks has seen last; a bounded number of them."""

    MAX = 10_000

    def __init__(self) -> None:
        self._versions: OrderedDict[UUID, tuple[int, int]] = OrderedDict()

    def pass_over(self, ended: list[UUID]) -> None:
        """From now on nothing of these tasks is newer than what was seen."""
        self._versions.update(dict.fromkeys(ended, (MAX_INT, MAX_INT)))

    def advances(self, snapshot: TaskSnapshot) -> bool:
        """Whether the snapshot is newer than what was seen of its task; remembers it."""
        if snapshot.version <= self._versions.get(snapshot.id, (0, 0)):
            return False
        self._versions[snapshot.id] = snapshot.version
        self._versions.move_to_end(snapshot.id)
        if len(self._versions) > self.MAX:
            self._versions.popitem(last=False)
        return True
