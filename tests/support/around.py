"""Managers for `around_task`, and tasks that return what they see within them."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group
from django.db import connection, transaction
from django.utils import timezone, translation

from rail_async_tasks import AttemptInfo, Fail, task
from tests.support.waiting import TIMEOUT

tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="none")
# What managers and bodies do, in order.
heard: list[Any] = []
# The attempts that `noting` was made for.
attempts: list[AttemptInfo] = []


class Broken(Exception):
    """An error of a manager's."""


@contextmanager
def plain(info: AttemptInfo) -> Iterator[None]:
    heard.append(("enter", info.name, info.attempt))
    token = tenant.set(str(info.tenant_id))
    with translation.override("de"), timezone.override("Asia/Tokyo"):
        try:
            yield
        except BaseException as error:
            heard.append(type(error).__name__)
            raise
        finally:
            tenant.reset(token)  # in the context in which it was set
            heard.append("leave")


@asynccontextmanager
async def in_task(info: AttemptInfo) -> AsyncIterator[None]:
    await asyncio.sleep(0)
    with plain(info):
        yield


class Either:
    """Enters by either protocol."""

    def __init__(self, info: AttemptInfo) -> None:
        self._info = info

    def __enter__(self) -> None:
        self._manager = plain(self._info)
        self._manager.__enter__()

    def __exit__(self, *raised: object) -> Any:
        return self._manager.__exit__(*raised)

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(self, *raised: object) -> Any:
        return self.__exit__(*raised)


def makes_async(info: AttemptInfo) -> Any:
    """A plain function whose manager is async."""
    return in_task(info)


async def made_on_the_loop(info: AttemptInfo) -> Any:
    """An `async def` that returns a manager."""
    await asyncio.sleep(0)
    return plain(info)


@contextmanager
def querying(info: AttemptInfo) -> Iterator[None]:
    """Reads the database as it is entered and as it is left."""
    heard.append(Group.objects.count())
    yield
    heard.append(Group.objects.count())


@contextmanager
def noting(info: AttemptInfo) -> Iterator[None]:
    """Keeps the attempt that it is made for."""
    attempts.append(info)
    yield


@contextmanager
def fails_to_enter(info: AttemptInfo) -> Iterator[None]:
    if info.attempt == 1:
        raise Broken("on the way in")
    yield


@contextmanager
def refuses(info: AttemptInfo) -> Iterator[None]:
    raise Fail("not today")
    yield


@contextmanager
def fails_to_leave(info: AttemptInfo) -> Iterator[None]:
    yield
    raise Broken("on the way out")


@contextmanager
def swallows(info: AttemptInfo) -> Iterator[None]:
    try:
        yield
    except BaseException as error:  # noqa: BLE001 - that is its fault
        heard.append(f"swallowed {type(error).__name__}")


@asynccontextmanager
async def swallows_in_task(info: AttemptInfo) -> AsyncIterator[None]:
    with swallows(info):
        yield


@contextmanager
def replaces(info: AttemptInfo) -> Iterator[None]:
    try:
        yield
    except KeyError as error:
        raise Fail("replaced") from error


def generator(info: AttemptInfo) -> Iterator[None]:
    yield


@asynccontextmanager
async def enters_for_ever(info: AttemptInfo) -> AsyncIterator[None]:
    heard.append("entering")
    try:
        await asyncio.Event().wait()
        yield
    finally:
        heard.append("leave")


# Lets `enters_slowly` go on. A test sets a new one.
may_enter = threading.Event()


@contextmanager
def enters_slowly(info: AttemptInfo) -> Iterator[None]:
    heard.append("entering")
    may_enter.wait(TIMEOUT)
    try:
        yield
    finally:
        heard.append("leave")


@contextmanager
def marks_the_connection(info: AttemptInfo) -> Iterator[None]:
    """As libraries do that keep a tenant's schema on the connection."""
    connection.tenant_of_test = info.tenant_id  # type: ignore[attr-defined]
    yield
    connection.tenant_of_test = None  # type: ignore[attr-defined]


@asynccontextmanager
async def marks_it_from_the_task(info: AttemptInfo) -> AsyncIterator[None]:
    manager = marks_the_connection(info)
    await sync_to_async(manager.__enter__)()
    yield
    await sync_to_async(manager.__exit__)(None, None, None)


@contextmanager
def sets_a_variable(info: AttemptInfo) -> Iterator[None]:
    """As for row-level security: the session of the connection knows the tenant."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('app.tenant', %s, false)", [info.tenant_id])
    yield


@contextmanager
def in_a_transaction(info: AttemptInfo) -> Iterator[None]:
    with transaction.atomic():
        yield


def path(factory: Any) -> str:
    return f"{factory.__module__}.{factory.__qualname__}"


def look() -> list[str]:
    return [tenant.get(), translation.get_language(), timezone.get_current_timezone_name()]


def declared(kind: str, **options: Any) -> Any:
    """A task of either kind that returns what it sees, itself and in a thread."""

    async def coroutine() -> list[Any]:
        heard.append("body")
        return [look(), await sync_to_async(look)()]

    def function() -> list[Any]:
        heard.append("body")
        return [look()]

    return task(name="around.look", **options)(coroutine if kind == "coroutine" else function)


SEEN = ["north", "de", "Asia/Tokyo"]
LIFE = [("enter", "around.look", 1), "body", "leave"]
