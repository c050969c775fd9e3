"""The tasks of the library. Their rows are Django's groups: a book is a group of its title."""

from __future__ import annotations

import asyncio
import datetime as dt
from decimal import Decimal
from typing import Any

import strawberry
from django.contrib.auth.models import Group
from django.db import connection
from strawberry.permission import BasePermission

from rail_async_tasks import Fail, Retry, task, task_mutation

# The loop of the last `on_loop`, and what failed: for the tests of the tests.
loops: list[asyncio.AbstractEventLoop] = []
failures: list[str] = []


class IsLibrarian(BasePermission):
    message = "Only librarians lend."

    def has_permission(self, source: Any, info: Any, **kwargs: Any) -> bool:
        return bool(info.context.user.is_staff)


@task_mutation
async def lend(info: Any, title: str, days: int = 14, fee: Decimal = Decimal("0.50")) -> dict:
    """Write a book down as lent."""
    info.context.task.update_progress(50, "Looking it up")
    await Group.objects.acreate(name=title)
    info.context.task.update_progress(100)
    return {"title": title, "days": days, "by": str(info.context.user)}


@task_mutation(permission_classes=[IsLibrarian])
def give_back(info: Any, title: str) -> int:
    """Delete the note. A plain `def`, with the ORM."""
    for _ in info.context.task.track([1, 2], message="Shelving"):
        pass
    return Group.objects.filter(name=title).delete()[0]


@task(max_retries=2)
async def remind(info: Any, title: str) -> int:
    """Fail twice."""
    if info.context.task.attempt < 3:
        raise ConnectionError(f"no answer to call {info.context.task.attempt}")
    return info.context.task.attempt


@task(retry_delay=0, max_retries=3)
def insist(info: Any) -> int:
    if info.context.task.attempt < 3:
        raise Retry(delay=0)
    return info.context.task.attempt


@task(max_retries=0)
def burn(title: str) -> None:
    Group.objects.create(name=f"ashes of {title}")
    raise ValueError(f"{title} does not burn")


@task
async def refuse() -> None:
    raise Fail("closed")


@task
def shelf() -> list[str]:
    return sorted(Group.objects.values_list("name", flat=True))


@task
def bad_sql(title: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT nonsense FROM nowhere")


@task(max_retries=0, timeout=0.01)
async def dawdle() -> None:
    await asyncio.sleep(60)


@task
async def relay(title: str) -> str:
    """Start another task and wait for it."""
    handle = await lend.aenqueue(title=title)
    return (await handle.aresult(30))["title"]


@task
def relay_in_a_thread(title: str) -> str:
    return lend.enqueue(title=title).result(30)["title"]


@task
def again() -> None:
    """Start itself, for ever."""
    again.enqueue()


@task
async def on_loop() -> None:
    loops.append(asyncio.get_running_loop())


@task(track_progress=False, sensitive=["pin"])
def check_card(info: Any, pin: str, day: dt.date) -> str:
    info.context.task.update_progress(10)
    return f"{pin[-1]} {day:%d}"


@task(cron="*/5 * * * *")
def sweep() -> int:
    return Group.objects.count()


@task
def not_json() -> object:
    return object()


def note_failure(taskId: str, task_name: str, error: str, traceback: str) -> None:  # noqa: N803
    failures.append(f"{task_name}: {error}")


@strawberry.type
class LibraryMutations:
    lend = lend
    give_back = give_back
