"""Findings about processes and about tasks that wait for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.db.models import Count, Q, QuerySet

from rail_async_tasks.backends import find_broker
from rail_async_tasks.cli.doctor.setups import Finding, found
from rail_async_tasks.cli.fields import is_readable
from rail_async_tasks.cli.queues import queues
from rail_async_tasks.cli.words import duration
from rail_async_tasks.conf import TaskSettings
from rail_async_tasks.errors import ConfigurationError
from rail_async_tasks.hosting import process
from rail_async_tasks.ledger.rows import clock, in_utc, storable
from rail_async_tasks.models import TaskExecution, TaskSchedule
from rail_async_tasks.registry import registry
from rail_async_tasks.runtime.upkeep.cron import Schedule
from rail_async_tasks.service.processes import Process, read_processes, runners
from rail_async_tasks.states import WAITING
from rail_async_tasks.text import counted

# A due task starts, and a task that was sent begins, well within this time (seconds).
STUCK_SECONDS: Final = 600.0
# A live process starts a tick within seconds.
LATE: Final = timedelta(minutes=2)


def workers(alias: str, settings: TaskSettings) -> Iterator[Finding]:
    """Yields all findings of this module."""
    living = read_processes(alias).living
    alive = [it for it in living if it.state == "alive"]
    states = queues()
    due = dict(_due(alias).values_list("queue").annotate(Count("id")))
    if settings.enabled and settings.backend != "sync":
        paused = {it["name"] for it in states if it["paused"]}
        may_start = sum(count for queue, count in due.items() if queue not in paused)
        yield from _nothing_runs(alive, may_start, settings)
    yield from _processes(living, alive, settings)
    yield from _orphans(alias)
    yield from _unknown(alias, alive)
    yield from _queues(states, due)
    yield from _full(settings)
    yield from _sent(alias, settings)
    yield from _schedules(alias)
    yield from _sensitive(alias)


def _nothing_runs(alive: Sequence[Process], due: int, settings: TaskSettings) -> Iterator[Finding]:
    if runners(alive, settings):
        return
    message, where = "No row of a process has a lease that lasts.", ""
    with suppress(ConfigurationError):  # E013 and E015 name it
        if (broker := find_broker(settings)) is not None:
            if alive:
                message = "The live processes are no workers: they only send tasks."
            if broker.worker_command:
                where = f"A worker starts by `{broker.worker_command}`."
    if due:
        message = f"{counted(due, 'task')} may start now. {message}"
        yield found("no-process-for-waiting", message, where=where)
    else:
        yield found("no-process", message, where=where)


def _processes(
    living: Sequence[Process], alive: Sequence[Process], settings: TaskSettings
) -> Iterator[Finding]:
    for it in living:
        if it.state == "silent":
            yield found("process-silent", f"{it.place} last renewed at {it.renewed_at}.")
    if len(alive) > 1 and settings.bus == "memory":
        places = ", ".join(it.place for it in alive)
        yield found("bus-within-one-process", f"Alive: {places}.")


def _orphans(alias: str) -> Iterator[Finding]:
    leases = process.ledger().leases()
    if leases is None:
        return
    try:
        holders = leases.dead_holders()
    finally:
        leases.reset()
    if holders:
        rows = TaskExecution.objects.using(alias).filter(status="running", runtime_id__in=holders)
        yield found("tasks-orphaned", f"{counted(rows.count(), 'task')} of dead processes.")


def _unknown(alias: str, alive: Sequence[Process]) -> Iterator[Finding]:
    if not alive:
        return  # another finding
    known = {name for it in alive for name in it.names}
    waiting = _waiting(alias).exclude(name__in=known).values_list("name").annotate(Count("id"))
    for name, count in sorted(waiting):
        yield found("tasks-unknown", f"{counted(count, 'task')} named {name}.")


def _queues(all_queues: Sequence[Mapping[str, Any]], due: Mapping[str, int]) -> Iterator[Finding]:
    for queue in all_queues:
        name, oldest = queue["name"], queue["oldest_seconds"]
        if queue["paused"]:
            if count := due.get(name):
                yield found("queue-paused", f"{name}: {counted(count, 'task')} due.")
        elif oldest is not None and oldest > STUCK_SECONDS:
            yield found("queue-stuck", f"{name}: the oldest waits for {duration(oldest)}.")


def _full(settings: TaskSettings) -> Iterator[Finding]:
    most = settings.max_pending
    if most is not None and process.ledger().count_waiting(None, most) >= most:
        yield found("backlog-full", f"{most:,} unfinished tasks or more do not run.")


def _sent(alias: str, settings: TaskSettings) -> Iterator[Finding]:
    sent = _waiting(alias).filter(dispatched_at__isnull=False)
    elsewhere = sent.exclude(dispatched_to=settings.backend)
    for backend, count in sorted(elsewhere.values_list("dispatched_to").annotate(Count("id"))):
        yield found("tasks-sent-elsewhere", f"{counted(count, 'task')} sent by {backend}.")
    long_ago = storable(clock(alias) - timedelta(seconds=STUCK_SECONDS))
    late = sent.filter(dispatched_to=settings.backend, dispatched_at__lt=long_ago)
    for queue, count in sorted(late.values_list("queue").annotate(Count("id"))):
        yield found("tasks-not-collected", f"{counted(count, 'task')} of the queue {queue}.")


def _schedules(alias: str) -> Iterator[Finding]:
    ticks = dict(TaskSchedule.objects.using(alias).values_list("name", "last_tick"))
    for definition in registry.definitions():
        last = in_utc(ticks.get(definition.name))
        if definition.options.cron is None or last is None:
            continue
        try:
            due = Schedule(definition.options.cron).after(last)
        except ConfigurationError:  # E017 names it
            continue
        if due is not None and due < datetime.now(UTC) - LATE:
            yield found("schedule-late", f"{definition.name} was due at {due}.")


def _sensitive(alias: str) -> Iterator[Finding]:
    for definition in registry.definitions():
        if not definition.options.sensitive:
            continue
        rows = _waiting(alias).filter(name=definition.name).order_by("id")
        for task_id in rows.values_list("id", flat=True)[:1]:
            if not is_readable(definition, process.ledger().arguments(task_id)):
                message = f"{definition.name}: the task {task_id}, and perhaps others."
                yield found("sensitive-unreadable", message)


def _due(alias: str) -> QuerySet[TaskExecution]:
    now = storable(clock(alias))
    return _waiting(alias).filter(Q(run_after__isnull=True) | Q(run_after__lte=now))


def _waiting(alias: str) -> QuerySet[TaskExecution]:
    return TaskExecution.objects.using(alias).filter(status__in=sorted(WAITING)).order_by()
