"""Times with `USE_TZ` off, and with a database in a time zone of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from io import StringIO
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.management import call_command
from django.db import connections
from django.test import AsyncClient
from django.utils import timezone as django_timezone

from rail_async_tasks import InvalidArguments, Retry, task
from rail_async_tasks.access import SYSTEM
from rail_async_tasks.hosting import process as host
from rail_async_tasks.ledger.rows import in_utc
from rail_async_tasks.models import TaskExecution, TaskSchedule
from rail_async_tasks.service import watch
from tests.django_settings.conftest import Configure
from tests.support.databases import forget_connections
from tests.support.ledgers import new_execution
from tests.support.waiting import TIMEOUT

TOKYO = ZoneInfo("Asia/Tokyo")
KATHMANDU = ZoneInfo("Asia/Kathmandu")

pytestmark = pytest.mark.usefixtures("running")


@task(name="settings.note")
async def note(value: str = "") -> str:
    return value


@task(name="settings.second", max_retries=1)
async def second(info: Any) -> int:
    """Succeed at the second attempt."""
    if info.context.task.attempt == 1:
        raise Retry(delay=0.01)
    return int(info.context.task.attempt)


@pytest.fixture(params=["aware", "naive", "in the database's zone"])
def zones(database: object, settings: Any, request: pytest.FixtureRequest) -> Iterator[str]:
    """`USE_TZ` on, off, and on with `DATABASES["default"]["TIME_ZONE"]`."""
    config = connections.settings["default"]
    settings.TIME_ZONE = "Asia/Tokyo"
    settings.USE_TZ = request.param != "naive"
    if request.param == "in the database's zone":
        config["TIME_ZONE"] = "America/Chicago"
    forget_connections()
    yield request.param
    config["TIME_ZONE"] = None


async def end_of(handle: Any) -> Any:
    async with asyncio.timeout(TIMEOUT):
        async for snapshot in watch(SYSTEM, str(handle.id)):
            if snapshot.is_final:
                return snapshot
    raise AssertionError("it did not end")


async def test_a_run_after_that_has_passed_starts_at_once(zones: str) -> None:
    """Aware or naive, with `USE_TZ` on or off."""
    now = django_timezone.now()  # naive where USE_TZ is off
    handles = [
        await note.using(run_after=past).aenqueue()
        for past in (
            datetime.min,
            datetime.min.replace(tzinfo=UTC),
            datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),  # before year 1 in UTC
            datetime(2020, 1, 1),
            datetime(2020, 1, 1, tzinfo=KATHMANDU),
            now - timedelta(minutes=1),
            now,
        )
    ]
    for handle in handles:
        assert (await end_of(handle)).status == "completed"


async def test_a_run_after_that_is_too_far_away_is_refused(zones: str) -> None:
    """By the rule, whatever arithmetic overflows on the way."""
    for far in (
        datetime.max,
        datetime.max.replace(tzinfo=UTC),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-12))),  # after year 9999 in UTC
        datetime(9999, 1, 1),
    ):
        with pytest.raises(InvalidArguments, match="100 years"):
            await note.using(run_after=far).aenqueue()


async def test_every_edge_shows_the_same_moment(zones: str) -> None:
    """A naive time is local, in `TIME_ZONE`; REST and GraphQL show it with its offset."""
    local = datetime(2050, 6, 1, 9, 0)
    moment = datetime(2050, 6, 1, 0, 0, tzinfo=UTC)
    client = AsyncClient()
    for given in (local, moment, moment.astimezone(KATHMANDU)):
        handle = await note.using(run_after=given).aenqueue()
        rest = (await client.get(f"/api/v1/tasks/{handle.id}/")).json()
        query = f'{{ task(id: "{handle.id}") {{ runAfter createdAt }} }}'
        graphql = (await client.get("/graphql/", {"query": query})).json()["data"]["task"]
        for shown in (rest["run_after"], graphql["runAfter"]):
            assert datetime.fromisoformat(shown) == moment
        for shown in (rest["created_at"], graphql["createdAt"]):
            created = datetime.fromisoformat(shown)
            assert abs(created - datetime.now(UTC)) < timedelta(seconds=60)
        assert rest["run_after"] == "2050-06-01T00:00:00Z"


async def test_a_users_time_zone_changes_no_stored_time(zones: str) -> None:
    """Where a request has activated another zone, a naive time is in it only with `USE_TZ` on."""
    with django_timezone.override(KATHMANDU):
        handle = await note.using(run_after=datetime(2050, 6, 1, 9, 0)).aenqueue()
        soon = await note.using(delay=0.01).aenqueue()
        assert (await end_of(soon)).status == "completed"
    zone = TOKYO if zones == "naive" else KATHMANDU
    expected = datetime(2050, 6, 1, 9, 0, tzinfo=zone)
    stored = (await TaskExecution.objects.aget(id=handle.id)).run_after
    assert stored is not None
    if zones == "naive":
        stored = stored.replace(tzinfo=TOKYO)
    assert stored == expected


async def test_a_tick_is_the_moment_that_it_is(zones: str) -> None:
    """A schedule's last tick is compared with the next one, in any zone."""
    await end_of(await note.aenqueue())  # the runtime is up, and its writers
    ledger = host.ledger()
    last = datetime(2030, 10, 27, 0, 30, tzinfo=UTC)
    await ledger.schedule("settings.note", last)
    minute = timedelta(minutes=1)
    for at, due in ((last, False), (last + minute, True), (last + minute, False)):
        created = await ledger.tick("settings.note", at, new_execution(name="settings.note"))
        assert (created is not None) is due
    stored = (await TaskSchedule.objects.aget(name="settings.note")).last_tick
    # A column without a zone keeps ticks in UTC: in autumn a local time would be two moments.
    in_zone = settings.USE_TZ or connections["default"].vendor == "postgresql"
    assert (in_utc(stored) if in_zone else stored.replace(tzinfo=UTC)) == last + minute


async def test_delays_retries_and_expiry(zones: str, configure: Configure) -> None:
    """A delay and a retry come when they are due; a result is there until its time, and counts its
    age from its end.
    """
    configure(result_ttl_seconds=3600)
    begun = datetime.now(UTC)
    delayed, retried = await note.using(delay=0.05).aenqueue(), await second.aenqueue()
    for handle in (delayed, retried):
        ended = await end_of(handle)
        assert ended.status == "completed"
        assert begun - timedelta(seconds=1) < ended.completed_at < datetime.now(UTC)
        assert abs(ended.expires_at - ended.completed_at - timedelta(hours=1)) < timedelta(
            seconds=1
        )
    assert await sync_to_async(cleaned)(days=1) == 0
    old = django_timezone.now() - timedelta(days=2)
    await TaskExecution.objects.filter(id=delayed.id).aupdate(completed_at=old)
    await TaskExecution.objects.filter(id=retried.id).aupdate(expires_at=django_timezone.now())
    assert (await AsyncClient().get(f"/api/v1/tasks/{retried.id}/")).status_code == 404
    assert (await AsyncClient().get(f"/api/v1/tasks/{delayed.id}/")).status_code == 200
    assert await sync_to_async(cleaned)(days=1) == 2


def cleaned(days: int) -> int:
    """How many rows the command deletes."""
    before = TaskExecution.objects.count()
    call_command("cleanup_tasks", days=days, stdout=StringIO())
    return before - TaskExecution.objects.count()
