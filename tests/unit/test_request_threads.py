"""Threads of HTTP requests: used again, never shared, none where no call is synchronous."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.core.asgi import get_asgi_application as get_django_application
from django.core.handlers.asgi import ASGIHandler
from django.core.signals import request_finished
from django.db import connections, transaction

from rail_async_tasks.asgi import get_asgi_application, with_tasks
from rail_async_tasks.servers import request_threads
from rail_async_tasks.servers.protocol import Application, Receive, Scope, Send
from rail_async_tasks.servers.request_threads import IdleThreads
from tests.support.waiting import TIMEOUT, eventually


@pytest.fixture(autouse=True)
def idle(monkeypatch: pytest.MonkeyPatch) -> Iterator[IdleThreads]:
    """The idle threads of this test alone, which end with it."""
    threads = IdleThreads()
    monkeypatch.setattr(request_threads, "_idle", threads)
    # None ends by itself, however long the test takes.
    monkeypatch.setattr(request_threads, "IDLE_SECONDS", 3600.0)
    yield threads
    while threads:
        threads.take().shutdown()


async def receive() -> Any:
    return {"type": "http.request"}


async def send(message: Any) -> None:
    pass


async def request(application: Application) -> None:
    """Has an application serve a request of its own, as servers do."""
    serve = request_threads.served_by_a_thread
    await asyncio.create_task(serve(application, {"type": "http"}, receive, send))  # type: ignore[arg-type]


async def end_of_request() -> None:
    """As Django does after an answer, and after a client that has gone."""
    await request_finished.asend(sender=None)


class Seen:
    """An application that makes synchronous calls as Django does, and keeps their threads."""

    def __init__(self, *, at_once: int = 1) -> None:
        self.threads: list[threading.Thread] = []
        self._all_here = threading.Barrier(at_once, timeout=TIMEOUT)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with ThreadSensitiveContext():  # Django's
            await sync_to_async(self._call)()
            await end_of_request()

    def _call(self) -> None:
        self.threads.append(threading.current_thread())
        self._all_here.wait()


async def test_one_request_after_the_other_uses_the_same_thread() -> None:
    """Neither is a thread made for each, nor is it waited for."""
    seen = Seen()
    for _ in range(3):
        await request(seen)
    assert len(set(seen.threads)) == 1
    assert seen.threads[0].is_alive()


async def test_requests_at_the_same_time_have_threads_of_their_own() -> None:
    """Each waits in its thread for the other."""
    seen = Seen(at_once=2)
    await asyncio.gather(request(seen), request(seen))
    assert len(set(seen.threads)) == 2


async def test_all_calls_of_one_request_are_made_in_one_thread() -> None:
    """Database connections belong to a thread."""
    seen = Seen()

    async def twice(scope: Scope, receive: Receive, send: Send) -> None:
        await seen(scope, receive, send)
        await seen(scope, receive, send)

    await asyncio.gather(request(twice), request(twice))
    assert len(seen.threads) == 4
    assert len(set(seen.threads)) <= 2


async def test_a_request_without_a_synchronous_call_has_no_thread(idle: IdleThreads) -> None:
    """The thread is started by the first call."""

    async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
        async with ThreadSensitiveContext():
            await asyncio.sleep(0)

    before = set(threading.enumerate())  # some of them may be about to end
    await request(nothing)
    assert set(threading.enumerate()) <= before
    assert len(idle) == 1


async def test_the_threads_of_a_burst_end_after_it(idle: IdleThreads) -> None:
    """But for a few: each may hold a database connection."""
    many = request_threads.MOST_IDLE + 3
    seen = Seen(at_once=many)
    await asyncio.gather(*(request(seen) for _ in range(many)))
    assert len(idle) == request_threads.MOST_IDLE
    await eventually(lambda: sum(it.is_alive() for it in seen.threads) == request_threads.MOST_IDLE)


async def test_a_thread_that_nobody_uses_ends(
    idle: IdleThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while: it may hold a connection."""
    monkeypatch.setattr(request_threads, "IDLE_SECONDS", 0.01)
    seen = Seen(at_once=2)
    await asyncio.gather(request(seen), request(seen))
    await eventually(lambda: not any(it.is_alive() for it in seen.threads))
    assert not idle
    await request(one := Seen())
    await eventually(lambda: not one.threads[0].is_alive())


async def test_a_thread_at_work_is_given_to_no_other_request(idle: IdleThreads) -> None:
    """A client has gone, and its synchronous view goes on: no request waits behind it."""
    begun, end = threading.Event(), threading.Event()
    working: list[threading.Thread] = []

    def work() -> None:
        working.append(threading.current_thread())
        begun.set()
        end.wait(TIMEOUT)

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        call = asyncio.ensure_future(sync_to_async(work)())
        await eventually(begun.is_set)
        call.cancel()

    await request(slow)
    assert not idle
    await request(seen := Seen())
    assert not set(seen.threads) & set(working)
    end.set()
    await eventually(lambda: not working[0].is_alive())


async def test_a_call_behind_one_at_work_is_cancelled(idle: IdleThreads) -> None:
    """As daphne cancels all of a request: the last call is over, and the one before it is not."""
    begun, end = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        end.wait(TIMEOUT)

    async def cancelled(scope: Scope, receive: Receive, send: Send) -> None:
        first = asyncio.ensure_future(sync_to_async(work)())
        await eventually(begun.is_set)
        last = asyncio.ensure_future(sync_to_async(int)())
        await asyncio.sleep(0)
        for it in (last, first):
            it.cancel()
        await asyncio.wait([last])

    try:
        await asyncio.wait_for(request(cancelled), TIMEOUT)
        assert not idle
        await asyncio.wait_for(request(Seen()), TIMEOUT)
    finally:
        end.set()


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_a_thread_with_a_transaction_is_given_to_no_other_request(
    idle: IdleThreads, database: object
) -> None:
    """A client has gone while its view began one, which is left open."""
    seen = Seen()

    async def begins(scope: Scope, receive: Receive, send: Send) -> None:
        await sync_to_async(transaction.atomic().__enter__)()
        await seen(scope, receive, send)

    await request(begins)
    assert not idle
    await eventually(lambda: not seen.threads[0].is_alive())
    open_ones: list[bool] = []

    async def looks(scope: Scope, receive: Receive, send: Send) -> None:
        await sync_to_async(lambda: open_ones.append(connections["default"].in_atomic_block))()
        await end_of_request()

    await request(looks)
    assert open_ones == [False]
    assert len(idle) == 1


async def test_a_thread_with_a_call_after_the_end_is_given_to_no_other_request(
    idle: IdleThreads,
) -> None:
    """Nothing closes its old connections."""
    seen = Seen()

    async def goes_on(scope: Scope, receive: Receive, send: Send) -> None:
        await seen(scope, receive, send)
        await sync_to_async(int)()

    await request(goes_on)
    assert not idle
    await eventually(lambda: not seen.threads[0].is_alive())


async def test_a_task_that_outlives_its_request_makes_calls_as_before() -> None:
    """In a thread of its own, as under Django: the request's may serve another one by then."""
    answered = asyncio.Event()
    outliving: list[asyncio.Task[threading.Thread]] = []

    async def later() -> threading.Thread:
        await answered.wait()
        return await sync_to_async(threading.current_thread)()

    seen = Seen()

    async def leaves_a_task(scope: Scope, receive: Receive, send: Send) -> None:
        async with ThreadSensitiveContext():
            outliving.append(asyncio.create_task(later()))
            await seen(scope, receive, send)

    await request(leaves_a_task)
    answered.set()
    assert await outliving[0] not in seen.threads


class Asks(ASGIHandler):
    """Django's application, or one in place of it, that says whether a thread waits for it."""

    def __init__(self) -> None:
        self.asked: list[bool] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        context = request_threads.SyncToAsync.thread_sensitive_context.get(None)
        self.asked.append(context is not None)


async def test_djangos_requests_have_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """In both applications that we make; Channels decides on the threads of WebSockets."""
    django = Asks()
    await with_tasks(django)({"type": "http"}, receive, send)  # type: ignore[arg-type]
    await with_tasks(django)({"type": "websocket"}, receive, send)  # type: ignore[arg-type]
    assert django.asked == [True, False]
    monkeypatch.setattr("rail_async_tasks.asgi.get_django_application", lambda: django)
    await get_asgi_application()({"type": "http"}, receive, send)  # type: ignore[arg-type]
    assert django.asked == [True, False, True]


async def test_other_applications_have_none(idle: IdleThreads) -> None:
    """They share one, as ever, and none of them says when a request's last call is made."""
    other = Asks()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await other(scope, receive, send)

    for made in (with_tasks(application), get_asgi_application(http=application)):
        await made({"type": "http"}, receive, send)  # type: ignore[arg-type]
    assert other.asked == [False, False]
    assert not idle


async def test_django_says_when_a_request_ends(idle: IdleThreads) -> None:
    """Its last call leaves a thread that is used again."""
    scope = {
        "type": "http", "method": "GET", "path": "/no/such/page", "query_string": b"",
        "headers": [(b"host", b"testserver")],
    }  # fmt: skip
    requests = iter([{"type": "http.request", "body": b""}])

    async def receive() -> Any:
        message = next(requests, None)
        return message or await asyncio.Event().wait()

    await with_tasks(get_django_application())(scope, receive, send)  # type: ignore[arg-type]
    assert len(idle) == 1
    assert idle.take().is_clean
