"""REST under WSGI: the same views, in a process that has no event loop of its own."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import httpx
import pytest
from django.contrib.auth.models import User
from django.core.wsgi import get_wsgi_application
from django.db import connections
from django.test import Client

from rail_async_tasks.hosting import process as host
from tests.rest import shelf
from tests.rest.conftest import MISSING, ROOT, Configure, code_of
from tests.rest.spec import check_task, conform
from tests.support.waiting import TIMEOUT


class Quiet(WSGIRequestHandler):
    """Logs nothing."""

    def log_message(self, *args: Any) -> None: ...


class Threaded(WSGIServer):
    """Its one thread, whose database connections end with it."""

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        connections.close_all()


@contextmanager
def serving() -> Iterator[str]:
    """Django's WSGI application on a free port."""
    server = make_server("127.0.0.1", 0, get_wsgi_application(), Threaded, Quiet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(TIMEOUT)
        server.server_close()


@pytest.fixture
def ada(database: object, configure: Configure) -> Iterator[Client]:
    """A user with a session; the runtime lives in a thread, and ends with the test."""
    client = Client()
    client.force_login(User.objects.create(username="ada"))
    yield client
    host.stop()


def send(client: Any, method: str, path: str, **options: Any) -> Any:
    """A response that is held to the OpenAPI document."""
    response = getattr(client, method.lower())(ROOT + path, **options)
    conform(method, ROOT + path, response)
    return response


def start(task: Any, **arguments: Any) -> str:
    return str(task.using(owner=User.objects.get()).enqueue(**arguments).id)


def finished(task: Any, **arguments: Any) -> str:
    handle = task.using(owner=User.objects.get()).enqueue(**arguments)
    handle.result(TIMEOUT)
    return str(handle.id)


def event_of(text: str) -> Any:
    """The one event of a stream; None where it has none."""
    if not text:
        return None
    event, identifier, data, *end = text.split("\n")
    task = json.loads(data.removeprefix("data: "))
    assert (event, end) == ("event: task", ["", ""])
    assert identifier == f"id: {task['seq']}.{task['step']}"
    check_task(task)
    return task


def test_every_operation(ada: Client) -> None:
    """Tasks run in the process's own thread; answers are those of ASGI."""
    task_id = finished(shelf.echo, value="x")
    task = send(ada, "GET", f"{task_id}/").json()
    assert (task["status"], task["result"]) == ("completed", {"value": "x", "number": 0})
    assert send(ada, "GET", "").json() == {"results": [task], "next": None}
    assert code_of(send(ada, "POST", f"{task_id}/cancel/")) == "ALREADY_FINAL"
    response = send(ada, "POST", f"{task_id}/retry/")
    assert (response.status_code, response.json()["parent_id"]) == (201, task_id)
    delayed = str(shelf.echo.using(owner=User.objects.get(), delay=100).enqueue().id)
    assert send(ada, "POST", f"{delayed}/cancel/").json()["status"] == "cancelled"
    for path in (f"{MISSING}/", "no-id/", f"{MISSING}/events/"):
        assert code_of(send(ada, "GET", path)) == "NOT_FOUND"
    assert code_of(send(Client(), "GET", f"{task_id}/")) == "NOT_FOUND"
    assert code_of(send(ada, "GET", "?limit=x")) == "INVALID_ARGUMENT"
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = ada.cookies
    assert code_of(send(strict, "POST", f"{task_id}/retry/")) == "CSRF_FAILED"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_events_are_what_is_new_and_the_end(ada: Client) -> None:
    """A stream that stayed open would hold one of few workers: clients come back for more."""
    task_id = start(shelf.echo.using(delay=100))
    response = send(ada, "GET", f"{task_id}/events/")
    assert response.headers["Content-Type"] == "text/event-stream"
    assert not response.streaming
    task = event_of(response.content.decode())
    assert task == send(ada, "GET", f"{task_id}/").json()
    last = {"last-event-id": f"{task['seq']}.{task['step']}"}
    assert send(ada, "GET", f"{task_id}/events/", headers=last).content == b""
    send(ada, "POST", f"{task_id}/cancel/")
    for _ in range(2):
        response = send(ada, "GET", f"{task_id}/events/", headers=last)
        task = event_of(response.content.decode())
        assert task["status"] == "cancelled"
        last = {"last-event-id": f"{task['seq']}.{task['step']}"}


def test_on_a_real_server(ada: Client) -> None:
    """wsgiref's, in a thread: a task is started again, followed to its end, and listed."""
    task_id = finished(shelf.echo, value="x")
    cookie = f"sessionid={ada.cookies['sessionid'].value}; csrftoken={'a' * 32}"
    headers = {"cookie": cookie, "x-csrftoken": "a" * 32}
    with serving() as url, httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT) as http:
        refused = http.post(f"{ROOT}{task_id}/retry", headers={"x-csrftoken": "b" * 32})
        assert (refused.status_code, code_of(refused)) == (403, "CSRF_FAILED")
        response = http.post(f"{ROOT}{task_id}/retry", json={})
        conform("POST", f"{ROOT}{task_id}/retry/", response)
        again = response.json()["id"]
        assert response.headers["Location"] == f"{ROOT}{again}/"
        last, statuses = "", []
        while not statuses or statuses[-1] != "completed":
            events = http.get(f"{ROOT}{again}/events/", headers={"last-event-id": last})
            if (task := event_of(events.text)) is not None:
                last = f"{task['seq']}.{task['step']}"
                statuses.append(task["status"])
        assert statuses == list(dict.fromkeys(statuses))
        listed = http.get(ROOT).json()
        assert [it["id"] for it in listed["results"]] == [again, task_id]
        head = http.head(f"{ROOT}{again}/")
        assert (head.status_code, head.content) == (200, b"")
