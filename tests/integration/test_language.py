"""A body runs in the language of the request that started it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from django.utils import translation
from django.utils.translation import gettext

from rail_async_tasks import service, task
from rail_async_tasks.access import SYSTEM
from rail_async_tasks.models import TaskExecution
from tests.support.runtimes import Configure, on_databases
from tests.support.waiting import final

pytestmark = [pytest.mark.usefixtures("ends_cleanly"), pytest.mark.turns("store")]
BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "thread", "sync"])


def declare() -> tuple[Any, Any]:
    @task(name="lang.async", max_retries=1)
    async def speaks(info: Any, fails: bool = False) -> list[str]:
        if fails and info.context.task.attempt == 1:
            raise ValueError(gettext("yes"))
        await asyncio.sleep(0)
        return [translation.get_language() or "", gettext("Monday")]

    @task(name="lang.def")
    def says() -> list[str]:
        return [translation.get_language() or "", gettext("Monday")]

    return speaks, says


@BACKENDS
async def test_a_body_runs_in_the_language_of_its_start(
    store: str, configure: Configure, backend: str
) -> None:
    """On a loop, in a thread, and after a retry; each in its own, and the caller's stays."""
    configure(backend=backend)
    speaks, says = declare()
    for language, monday in (("de", "Montag"), ("fr", "lundi"), ("en-us", "Monday")):
        with translation.override(language):
            handles = [
                await speaks.aenqueue(), await speaks.aenqueue(fails=True), await says.aenqueue(),
            ]  # fmt: skip
        for handle in handles:
            assert (await final(handle)).result == [language, monday]
    assert translation.get_language() == "en-us"


@BACKENDS
async def test_many_at_once_keep_their_own(store: str, configure: Configure, backend: str) -> None:
    """Bodies that run beside each other, in threads that are used again."""
    configure(backend=backend, max_workers=2)
    speaks, says = declare()
    languages = ["de", "fr", "en-us", "es"] * 5
    handles = []
    for language in languages:
        with translation.override(language):
            handles += [await speaks.aenqueue(), await says.aenqueue()]
    found = [(await final(handle)).result[0] for handle in handles]
    assert found == [it for it in languages for _ in range(2)]


@on_databases
@pytest.mark.parametrize("backend", ["asyncio", "sync"])
async def test_without_the_setting_no_language_is_carried(
    store: str, configure: Configure, backend: str
) -> None:
    """The body runs in LANGUAGE_CODE, as under every backend."""
    configure(backend=backend, carry_language=False)
    speaks, _ = declare()
    with translation.override("de"):
        handle = await speaks.aenqueue()
    assert (await final(handle)).result[0] == "en-us"
    assert await sync_to_async(stored)(handle.id) is None


@on_databases
async def test_a_start_from_python_in_a_transaction_and_a_later_one(
    store: str, configure: Configure
) -> None:
    """The row has the language that is active at that moment; LANGUAGE_CODE needs none."""
    configure()
    _, says = declare()

    def start() -> Any:
        from django.db import transaction

        with transaction.atomic(), translation.override("de"):
            return says.using(delay=0.01).enqueue()

    handle = await sync_to_async(start)()
    assert (await final(handle)).result == ["de", "Montag"]
    assert await sync_to_async(stored)(handle.id) == "de"
    plain = await says.aenqueue()
    assert await sync_to_async(stored)(plain.id) is None


@on_databases
async def test_a_language_that_the_settings_lack_falls_back(
    store: str, configure: Configure
) -> None:
    """Without an error."""
    configure()
    _, says = declare()
    handle = await says.using(delay=3600).aenqueue()

    def change() -> None:
        TaskExecution.objects.filter(id=handle.id).update(language="tlh", run_after=None)

    await sync_to_async(change)()
    assert (await final(handle)).result == ["en-us", "Monday"]


async def test_a_retry_that_is_asked_for_keeps_the_first_language(
    store: str, configure: Configure
) -> None:
    """Staff who speak another language may ask for it."""
    configure()
    _, says = declare()
    with translation.override("de"):
        handle = await says.aenqueue()
    await final(handle)
    with translation.override("fr"):
        again = await service.aretry(SYSTEM, handle.id)
    found = await wait_for_result(again.id)
    assert found == ["de", "Montag"]


async def wait_for_result(execution_id: Any) -> Any:
    async for snapshot in service.watch(SYSTEM, execution_id):
        result = snapshot.result
    return result


def stored(execution_id: Any) -> str | None:
    try:
        return TaskExecution.objects.get(id=execution_id).language
    finally:
        connection.close()
