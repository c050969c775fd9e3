"""Workers without a web server: tasks are rows that another process has left behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from django.utils import timezone

from devservers.redis import RedisServer
from rail_async_tasks.ids import new_id
from rail_async_tasks.models import TaskExecution
from tests.backends.kinds import Kind
from tests.backends.world import Worker, World
from tests.settings import database as database_config
from tests.support.databases import default_database, migrated_copy
from tests.support.waiting import wait_for

# For a worker to boot, on a machine that has other things to do (seconds).
BOOT_TIMEOUT = 90.0


@contextmanager
def lone_world(
    kind: Kind, broker_server: RedisServer, postgres_server: Any, django_db_blocker: Any, **env: str
) -> Iterator[World]:
    """A world of that kind in which nothing runs yet, on a database of its own."""
    url = migrated_copy(postgres_server, "lone")
    with (
        django_db_blocker.unblock(),
        default_database(database_config("postgres", url)),
        ExitStack() as stack,
    ):
        database = {"TEST_DATABASE": "postgres", "TEST_DATABASE_URL": url}
        world = World(kind, database, "", broker_server.url, stack)
        world.env.update(env)
        yield world


def leave(name: str, queue: str = "default", **arguments: Any) -> TaskExecution:
    """A row that is due."""
    now = timezone.now()
    return TaskExecution.objects.create(
        id=new_id(), name=name, status="pending", queue=queue, arguments=arguments,
        created_at=now, updated_at=now,
    )  # fmt: skip


def until_it_is(world: World, row: TaskExecution, status: str) -> TaskExecution:
    """The row once it has that status."""

    def has_it() -> bool:
        row.refresh_from_db()
        return row.status == status

    wait_for(has_it, lambda: f"{row.name} is {row.status}\n{world.said()}", timeout=BOOT_TIMEOUT)
    return row


def until_said(worker: Worker, *words: str) -> None:
    """Returns once the worker has said each of them."""
    wait_for(
        lambda: all(word in worker.said() for word in words), worker.said, timeout=BOOT_TIMEOUT
    )


def signal_all(worker: Worker, number: signal.Signals = signal.SIGTERM) -> list[int]:
    """As a service manager does it: to every process of the worker. Returns who got it."""
    family = worker.family()
    for pid in family:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
    return family
