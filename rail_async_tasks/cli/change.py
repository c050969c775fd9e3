"""`tasks cancel` and `tasks retry`: by id, or by filter with `--yes`."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID

from rail_async_tasks import service
from rail_async_tasks.access import Viewer
from rail_async_tasks.cli.exchange import publish
from rail_async_tasks.cli.exits import OK, UNAVAILABLE, USAGE, WRONG, Stop
from rail_async_tasks.cli.fields import fields_of
from rail_async_tasks.cli.filters import Filter, add_filter, database, filter_of, limit_type
from rail_async_tasks.cli.ids import find_id
from rail_async_tasks.cli.screen import Screen
from rail_async_tasks.cli.words import one_line
from rail_async_tasks.conf import get_settings
from rail_async_tasks.errors import AlreadyFinal, NotFinal, TaskError, TaskNotFound
from rail_async_tasks.hosting.stored import storing
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.service.processes import read_processes, runners
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.states import FINAL, UNFINISHED, Status
from rail_async_tasks.text import clean, counted

# The width of the audit's column.
MAX_ACTOR: Final = 255


@dataclass(frozen=True, slots=True)
class Done:
    """What was done with one task. `task` is the task afterwards; for a retry the new one."""

    id: UUID
    outcome: str
    task: TaskSnapshot | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """A subcommand that changes tasks.

    Attributes:
        statuses: the states in which it can be done.
        usual: the states that a filter without `--status` chooses.
        participle: "cancelled", "retried".
    """

    verb: str
    participle: str
    statuses: frozenset[Status]
    usual: frozenset[Status]
    change: Callable[[Viewer, UUID], Done]


def operator() -> Viewer:
    """Returns the viewer of the person at the terminal; the audit names them `cli:<user>`."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # an id without a name, as containers have
        name = str(os.getuid())
    actor = clean(f"cli:{name}", MAX_ACTOR)
    return Viewer(sees_all=True, changes_all=True, acts_as=actor)


def _cancel(viewer: Viewer, task_id: UUID) -> Done:
    task = service.cancel(viewer, task_id)
    return Done(task_id, "cancelled" if task.is_final else "cancel requested", task)


def _retry(viewer: Viewer, task_id: UUID) -> Done:
    task = service.retry(viewer, task_id)
    if task.parent_id != task_id:
        return Done(task_id, f"not retried, as {task.id} with the same unique key waits", None)
    return Done(task_id, f"retried as {task.id}", task)


CANCEL: Final = Change("cancel", "cancelled", UNFINISHED, UNFINISHED, _cancel)
RETRY: Final = Change("retry", "retried", FINAL, frozenset({Status.FAILED}), _retry)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds ids, the filter and its confirmation."""
    parser.add_argument("ids", nargs="*", metavar="ID", help="Ids, or the beginnings of them.")
    add_filter(parser)
    parser.add_argument("--limit", type=limit_type, metavar="N", help="At most so many tasks.")
    parser.add_argument(
        "--yes", action="store_true", help="Change the tasks that the filter chooses."
    )


def run_cancel(screen: Screen, options: Mapping[str, Any]) -> int:
    """Cancels tasks. Returns the exit code."""
    return _run(CANCEL, screen, options)


def run_retry(screen: Screen, options: Mapping[str, Any]) -> int:
    """Runs tasks again, in the processes of the project. Returns the exit code."""
    if get_settings().backend == "sync":
        raise Stop(
            'task_settings["backend"] is "sync", which runs a task in its caller, and this command'
            " runs none. Retry it from the project's own code.",
            UNAVAILABLE,
        )
    with storing():
        code = _run(RETRY, screen, options)
    if not options["json"]:
        living = read_processes(database()).living
        if not runners(living, get_settings()):
            screen.line("No process that runs tasks is alive: tasks wait until one starts.")
    return code


def _run(change: Change, screen: Screen, options: Mapping[str, Any]) -> int:
    which = filter_of(options)
    if bool(options["ids"]) == bool(which):
        raise Stop(f"Name the tasks to {change.verb}: either by ids or by a filter, not by both.")
    if options["ids"]:
        ids: Iterator[UUID] = iter(dict.fromkeys(find_id(text) for text in options["ids"]))
    else:
        which = _possible(change, which)
        if not options["yes"]:
            return _ask(change, screen, which, options["limit"])
        ids = _chosen(change, which, options["limit"])
    done = list(_change_each(change, ids, screen, quiet=options["json"]))
    changed = [it.task for it in done if it.task is not None]
    asyncio.run(publish(changed))
    if options["json"]:
        screen.document({"results": [_document(it) for it in done]})
    elif len(done) != 1:
        screen.line(f"{counted(len(changed), 'task')} {change.participle}, {_rest(done)}.")
    return OK if len(changed) == len(done) else WRONG


def _rest(done: Sequence[Done]) -> str:
    return f"{sum(it.task is None for it in done)} not"


def _change_each(
    change: Change, ids: Iterator[UUID], screen: Screen, *, quiet: bool
) -> Iterator[Done]:
    viewer = operator()
    for task_id in ids:
        done = _change_one(change, viewer, task_id)
        if not quiet:
            screen.line(f"{done.id}  {one_line(done.outcome)}")
        yield done


def _change_one(change: Change, viewer: Viewer, task_id: UUID) -> Done:
    try:
        return change.change(viewer, task_id)
    except AlreadyFinal:
        return Done(task_id, "not cancelled, as it has ended")
    except NotFinal:
        return Done(task_id, "not retried, as it has not ended")
    except TaskNotFound:
        return Done(task_id, "not found")
    except TaskError as error:
        return Done(task_id, f"not {change.participle}: {error.message}")


def _document(done: Done) -> dict[str, Any]:
    task = None if done.task is None else fields_of(done.task)
    return {"id": done.id, "done": task is not None, "outcome": done.outcome, "task": task}


# --- by filter ------------------------------------------------------------------------------------


def _possible(change: Change, which: Filter) -> Filter:
    """Returns the filter for tasks that can be changed so. Raises `Stop` for impossible states."""
    for status in which.statuses:
        if status not in change.statuses:
            raise Stop(f"A {status} task can't be {change.participle}; leave out that --status.")
    return which if which.statuses else replace(which, statuses=tuple(sorted(change.usual)))


def _ask(change: Change, screen: Screen, which: Filter, limit: int | None) -> int:
    """Writes how many tasks the filter chooses, and changes none."""
    count = sum(len(page) for page in _pages(change, which, limit))
    screen.line(
        f"{counted(count, 'task')} would be {change.participle}. Nothing was done; add --yes."
    )
    return USAGE


def _chosen(change: Change, which: Filter, limit: int | None) -> Iterator[UUID]:
    for page in _pages(change, which, limit):
        yield from page


def _pages(change: Change, which: Filter, limit: int | None) -> Iterator[list[UUID]]:
    """Yields the ids that a filter chooses. A retry passes over tasks that were retried before.

    So a command that was interrupted can be repeated.
    """
    for page in which.pages(limit):
        ids = [task.id for task in page]
        if change is RETRY:
            retried = _retried(ids)
            ids = [it for it in ids if it not in retried]
        yield ids


def _retried(ids: Sequence[UUID]) -> set[UUID | None]:
    """Returns those that have a retry. A retry is newer, which bounds the search."""
    newer = TaskExecution.objects.using(database()).filter(id__gt=min(ids), parent_id__in=ids)
    return set(newer.order_by().values_list("parent_id", flat=True))
