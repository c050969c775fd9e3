"""Parts of the tests of outages: a world without its processes, rows, watchers."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal
from asgiref.sync import sync_to_async
from django.utils import timezone

from devservers.redis import RedisServer
from rail_async_tasks.ids import new_id
from rail_async_tasks.models import TaskExecution
from tests.backends.kinds import KINDS, Kind
from tests.backends.world import World
from tests.services.proxy import running_proxy
from tests.settings import database as database_config
from tests.support.client import FINAL, Client, Event
from tests.support.databases import default_database, migrated_copy
from tests.support.places import logged_in
from tests.support.waiting import eventually

# How a broker says what it holds of a queue.
_HELD = {
    "arq": ("ZCARD", "arq:queue:default"),
    "celery": ("LLEN", "default"),
    "dramatiq": ("HLEN", "dramatiq:default.msgs"),
    "django_q": ("LLEN", "django_q:default:q"),
}
# Those whose tasks run in workers.
BROKERS = [kind.name for kind in KINDS.values() if kind.worker]


def forms(*, long: Any, short: Any = None) -> Any:
    """Parametrizes with `kind` and `size`; the short form is arq's, and among every run's tests."""
    sizes = [pytest.param(it, long, marks=pytest.mark.long, id=it) for it in BROKERS]
    if short is not None:
        sizes.insert(0, pytest.param("arq", short, id="arq-short"))
    return pytest.mark.parametrize(("kind", "size"), sizes, indirect=["kind"], scope="module")


@contextmanager
def world_of(
    kind: Kind, redis_url: str, postgres_server: Any, django_db_blocker: Any, **task_settings: Any
) -> Iterator[World]:
    """A world of that kind in which nothing runs yet, on a database of its own, with a user."""
    url = migrated_copy(postgres_server, f"backends_{new_id().hex}")
    env = {"TEST_DATABASE": "postgres", "TEST_DATABASE_URL": url}
    with (
        django_db_blocker.unblock(),
        default_database(database_config("postgres", url)),
        ExitStack() as stack,
    ):
        yield World(kind, env, logged_in("ada"), redis_url, stack, **task_settings)


@asynccontextmanager
async def client_at(world: World, number: int) -> AsyncIterator[Client]:
    """The world's user at one of its web servers."""
    client = Client(world.servers[number], world.cookie)
    try:
        yield client
    finally:
        await client.http.aclose()


class Silence:
    """A proxy that lives in a thread of its own, as whatever stands between two machines does."""

    def __init__(self, proxy: Any, portal: Any) -> None:
        self._proxy, self._portal = proxy, portal
        self.url = f"redis://127.0.0.1:{proxy.port}/0"

    def begin(self) -> None:
        """Silences the connections that there are, and new ones."""
        self._portal.call(self._proxy.fall_dead)

    def end(self) -> None:
        """Serves new connections. The connections from before stay silent."""
        self._portal.call(self._proxy.live_again)


@contextmanager
def silenceable(port: int) -> Iterator[Silence]:
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(running_proxy(port)) as proxy,
    ):
        yield Silence(proxy, portal)


# --- rows -----------------------------------------------------------------------------------------


@sync_to_async
def leave(name: str, count: int, **arguments: Any) -> list[str]:
    """Creates so many rows that are due and not sent."""
    now = timezone.now()
    made = TaskExecution.objects.bulk_create(
        TaskExecution(
            id=new_id(), name=name, status="pending", queue="default", arguments=arguments,
            created_at=now, updated_at=now,
        )
        for _ in range(count)
    )  # fmt: skip
    return [str(row.id) for row in made]


@sync_to_async
def rows(ids: Sequence[str]) -> list[TaskExecution]:
    return list(TaskExecution.objects.filter(id__in=ids).order_by("id"))


async def until_all(
    ids: Sequence[str], status: str, seconds: float, every: float = 0.1
) -> list[TaskExecution]:
    """The rows once each has that status, which they must get in that time."""
    found: list[TaskExecution] = []

    async def all_have_it() -> bool:
        found[:] = await rows(ids)
        return all(it.status == status for it in found)

    def others() -> object:
        return Counter((it.status, it.dispatches) for it in found if it.status != status)

    await eventually(all_have_it, others, timeout=seconds, every=every)
    return found


async def until_begun(ids: Sequence[str], seconds: float) -> None:
    """Each of them has begun."""

    async def all_have_begun() -> bool:
        return all(it.attempts for it in await rows(ids))

    await eventually(all_have_begun, timeout=seconds, every=0.1)


def held(world: World, server: RedisServer) -> int:
    """How many of the default queue are in the broker."""
    return int(server.ask(*_HELD[world.kind.name]))


async def until_still(world: World, server: RedisServer) -> int:
    """The broker has got what it gets, and workers what they take. How many it holds then."""
    seen = [-1]

    def is_still() -> int:
        seen.append(held(world, server))
        return seen[-1] if seen[-1] == seen[-2] else 0

    return await eventually(is_still, lambda: seen, every=0.7)


def attempts(found: Sequence[TaskExecution]) -> Counter[tuple[int, int]]:
    """How many of them have how many attempts and crashes."""
    return Counter((row.attempts, row.crashes) for row in found)


# --- watchers -------------------------------------------------------------------------------------


async def everything(client: Client, task_id: str) -> list[Event]:
    """Returns all events of a task, up to the end of its stream."""
    return [event async for event in client.by_socket(task_id)]


def assert_events_in_order(events: Sequence[Event]) -> None:
    """Each version once, in order; the final one at the end, and no other."""
    versions = [(it["seq"], it["step"]) for it in events]
    assert versions == sorted(set(versions))
    assert [it["status"] in FINAL for it in events] == [False] * (len(events) - 1) + [True]
    assert events[-1]["status"] == "completed"
