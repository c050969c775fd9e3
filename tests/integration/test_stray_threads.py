"""Which threads count as stray: a body may have started them. Requests and scripts do not."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest, HttpResponse
from django.test import AsyncRequestFactory, Client, override_settings
from django.urls import path

from rail_async_tasks import task
from rail_async_tasks.hosting import process
from rail_async_tasks.hosting.stray_threads import stray_thread
from tests.support.runtimes import Configure, in_memory
from tests.support.timings import Timings
from tests.support.waiting import TIMEOUT

pytestmark = in_memory

found: list[Any] = []


def note() -> None:
    found.append(stray_thread())


async def anote() -> None:
    note()


def view(request: HttpRequest) -> HttpResponse:
    note()
    return HttpResponse()


async def async_view(request: HttpRequest) -> HttpResponse:
    note()
    return HttpResponse()


urlpatterns = [path("sync", view), path("async", async_view)]
with_views = override_settings(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], MIDDLEWARE=[])


@pytest.fixture
def runtime(configure: Configure) -> None:
    """A runtime in a loop thread, as under WSGI."""
    configure(backend="thread")
    found.clear()

    @task(name="s.ping")
    async def ping() -> None: ...

    ping.enqueue().result(TIMEOUT)


def over_asgi(where: str) -> None:
    """Calls the view over ASGI, in the current thread and in a loop of its own."""

    async def call() -> None:
        scope = AsyncRequestFactory()._base_scope(path=f"/{where}")
        request = ApplicationCommunicator(ASGIHandler(), scope)
        await request.send_input({"type": "http.request"})
        assert (await request.receive_output())["status"] == 200
        await request.wait()

    asyncio.run(call())


KNOWN: dict[str, Callable[[], Any]] = {
    "WSGI": lambda: Client().get("/sync"),
    "WSGI, async def": lambda: Client().get("/async"),
    "ASGI": lambda: over_asgi("sync"),
    "ASGI, async def": lambda: over_asgi("async"),
    "sync_to_async": lambda: asyncio.run(sync_to_async(note)()),
    "sync_to_async, a thread of its own": lambda: asyncio.run(
        sync_to_async(note, thread_sensitive=False)()
    ),
    "async_to_sync": async_to_sync(anote),
}


@pytest.mark.usefixtures("runtime")
@pytest.mark.parametrize("who", KNOWN)
def test_a_thread_that_no_body_waits_for_is_known(who: str) -> None:
    """It answers a request, or works for a caller whose context it has."""
    thread = threading.Thread(target=KNOWN[who])
    with with_views:
        thread.start()
        thread.join()
    assert found == [None]


@pytest.mark.usefixtures("runtime")
def test_the_main_thread_and_the_runtimes_loop_are_no_strays() -> None:
    """A script waits, and bodies of the runtime have their context."""
    runtime = process.current()
    assert runtime is not None
    note()
    asyncio.run(anote())
    asyncio.run_coroutine_threadsafe(anote(), runtime.loop).result(TIMEOUT)
    assert found == [None] * 3


@pytest.mark.usefixtures("runtime")
def test_other_threads_may_be_a_bodys() -> None:
    """A thread, a thread of a pool, a loop in a thread; but not where no runtime is."""
    thread = threading.Thread(target=note, name="one")
    thread.start()
    thread.join()
    with ThreadPoolExecutor(1, "two") as pool:
        pool.submit(note).result()
        pool.submit(lambda: asyncio.run(anote())).result()
    assert [it.thread for it in found] == ["one", "two_0", "two_0"]
    process.stop()
    found.clear()
    thread = threading.Thread(target=note)
    thread.start()
    thread.join()
    assert found == [None]


@pytest.mark.parametrize("who", ["request", "thread"])
def test_a_request_that_waits_for_a_slot_is_no_deadlock(
    configure: Configure, timings: Timings, caplog: pytest.LogCaptureFixture, who: str
) -> None:
    """Bodies at work hold all slots; only a thread that may be a body's is reported."""
    timings.set("attempts", wait_look_every=0.02, wait_report_after=0.1)
    configure(max_concurrency=1)
    gate = threading.Event()

    @task(name="s.long", max_retries=0)
    async def long() -> None:
        await asyncio.to_thread(gate.wait, TIMEOUT)

    @task(name="s.short")
    async def short() -> None: ...

    def wait() -> None:
        with pytest.raises(TimeoutError):
            short.enqueue().result(0.6)
        note()

    def waiting_view(request: HttpRequest) -> HttpResponse:
        wait()
        return HttpResponse()

    found.clear()
    held = long.enqueue()
    thread = threading.Thread(target=wait if who == "thread" else lambda: Client().get("/"))
    urls = (path("", waiting_view),)
    try:
        with caplog.at_level(logging.WARNING), with_views, override_settings(ROOT_URLCONF=urls):
            thread.start()
            thread.join()
    finally:
        gate.set()
    held.result(TIMEOUT)
    assert len(found) == 1
    assert ("Deadlock?" in caplog.text) is (who == "thread")
