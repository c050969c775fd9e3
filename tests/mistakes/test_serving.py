"""Mistakes in asgi.py, urls.py, and in what starts the server or the worker."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import strawberry
from django.conf import settings as django_settings
from django.core.asgi import get_asgi_application
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.test import Client
from django.test.utils import override_settings
from django.urls import path
from strawberry.django.views import AsyncGraphQLView

from rail_async_tasks import task, task_mutation
from rail_async_tasks.ledger import tables as ledger_tables
from tests.mistakes.making import checked, module, raised, refused
from tests.mistakes.mistake import mistake
from tests.settings import database
from tests.support.databases import default_database

ROOT = Path(__file__).parents[2]


@mistake(
    "`asgi.py` names no settings",
    says="DJANGO_SETTINGS_MODULE is not set.",
    do="Write in asgi.py, before the application is made: import os;"
    ' os.environ.setdefault("DJANGO_SETTINGS_MODULE", "root.settings").',
    where="`uvicorn`, at its start",
)
def test_no_settings_module(tmp_path: Path) -> str:
    (tmp_path / "asgi.py").write_text(
        "from rail_async_tasks.asgi import get_asgi_application\n"
        "application = get_asgi_application()\n"
    )
    env = {name: it for name, it in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    done = subprocess.run(
        [sys.executable, "-m", "uvicorn", "asgi:application", "--port", "0"],
        cwd=tmp_path,
        env={**env, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    return done.stderr


@mistake(
    '`"rail_async_tasks"` is not in `INSTALLED_APPS`',
    says='"rail_async_tasks" is not in INSTALLED_APPS.',
    do='Add it: INSTALLED_APPS = [..., "channels", "strawberry_django", "rail_async_tasks"].',
    where="the server, at its start",
)
def test_the_app_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delitem(sys.modules, "rail_async_tasks.models")
    without = [it for it in django_settings.INSTALLED_APPS if it != "rail_async_tasks"]
    with override_settings(INSTALLED_APPS=without):
        return raised(ImproperlyConfigured, lambda: import_module("rail_async_tasks.models"))


@mistake(
    "No `ASGI_APPLICATION`",
    says="ASGI_APPLICATION is not set.",
    do="In asgi.py: from rail_async_tasks.asgi import get_asgi_application",
    where="`manage.py check`",
)
def test_no_application() -> str:
    return checked(ASGI_APPLICATION=None)


@mistake(
    "`asgi.py` has Django's own application",
    says="is Django's own application: it refuses WebSockets,",
    do="In asgi.py: from rail_async_tasks.asgi import get_asgi_application; application ="
    " get_asgi_application().",
    where="`manage.py check`",
)
def test_djangos_own_application(monkeypatch: pytest.MonkeyPatch) -> str:
    module(monkeypatch, "shop_asgi", application=get_asgi_application())
    return checked(ASGI_APPLICATION="shop_asgi.application")


@mistake(
    "No `include` in `urls.py`",
    says="GraphQL is served by no URL, and this project has mutations for it.",
    do='In urls.py: urlpatterns = [..., path("", include("rail_async_tasks.urls"))]',
    where="`manage.py check`",
)
def test_no_include(monkeypatch: pytest.MonkeyPatch) -> str:
    @task_mutation
    def report(count: int) -> None: ...

    module(monkeypatch, "shop_urls", urlpatterns=[])
    return checked(ROOT_URLCONF="shop_urls")


@mistake(
    "A schema of one's own with the tasks, and without our `Query` or `Subscription`",
    says="starts tasks, and its Query has no field to ask for a task's status and result.",
    do="Give the schema Query, which has task: from rail_async_tasks.graphql import Query;",
    where="`manage.py check`",
)
def test_a_schema_without_our_fields(monkeypatch: pytest.MonkeyPatch) -> str:
    @task_mutation
    def report(count: int) -> None: ...

    mutation = strawberry.type(type("Mutation", (), {"report": report}))
    query = strawberry.type(type("Query", (), {"__annotations__": {"one": int}}))
    view = AsyncGraphQLView.as_view(schema=strawberry.Schema(query=query, mutation=mutation))
    module(monkeypatch, "shop_urls", urlpatterns=[path("api/", view)])
    return checked(ROOT_URLCONF="shop_urls")


@mistake(
    "Server-sent events from a WSGI server (gunicorn, `runserver`)",
    says="Server-sent events need an ASGI server, and this one is WSGI:",
    do='start "uvicorn root.asgi:application"; or, for `manage.py runserver`, install daphne and'
    ' put "daphne" first in INSTALLED_APPS.',
    where="the answer, 501",
)
@pytest.mark.django_db
def test_events_from_wsgi() -> str:
    answer = Client().post(
        "/graphql/",
        {"query": "subscription { myTaskUpdates { id } }"},
        content_type="application/json",
        headers={"accept": "text/event-stream"},
    )
    assert answer.status_code == 501
    return str(answer.json()["errors"][0]["message"])


@mistake(
    "A WebSocket to a WSGI server (gunicorn, `runserver`)",
    says="A WebSocket needs an ASGI server, and this one is WSGI:",
    do='start "uvicorn root.asgi:application"; or, for `manage.py runserver`, install daphne and'
    ' put "daphne" first in INSTALLED_APPS.',
    where="the server's log; the answer, 501",
)
def test_socket_to_wsgi(caplog: pytest.LogCaptureFixture) -> str:
    handshake = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
    answer = Client().get("/graphql/", headers=handshake)
    assert answer.status_code == 501
    return caplog.messages[0]


@mistake(
    "A subscription in Strawberry's synchronous `GraphQLView`",
    says="A subscription needs an asynchronous view, and this execution is synchronous.",
    do="Serve the schema by TaskGraphQLView or Strawberry's AsyncGraphQLView under an ASGI server",
    where="the answer's `errors`",
)
def test_subscription_in_a_synchronous_view() -> str:
    import strawberry

    from rail_async_tasks.graphql.queries import Query
    from rail_async_tasks.graphql.subscriptions import Subscription

    schema = strawberry.Schema(query=Query, subscription=Subscription)
    result = schema.execute_sync("subscription { myTaskUpdates { id } }")
    return "\n".join(it.message for it in result.errors or ())


@mistake(
    "`migrate` has not run",
    says='The database "default" lacks …:',
    do="run `manage.py migrate`.",
    where="the server's log, `manage.py check --database default`, exceptions",
)
def test_no_migrate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, django_db_blocker: Any) -> str:
    @task
    def report() -> None: ...

    monkeypatch.setattr(ledger_tables, "_complete", set())
    empty = database("sqlite", f"sqlite:///{tmp_path / 'db.sqlite3'}")
    with django_db_blocker.unblock(), default_database(empty):
        return refused(report.enqueue)


@mistake(
    "`task_worker` for a backend without workers",
    says='task_worker serves the backend "arq", and task_settings["backend"] is "asyncio".',
    do='Its tasks run in the web process: start the server alone, or set the backend to "arq".',
    where="`manage.py task_worker`",
)
@pytest.mark.django_db
def test_worker_of_another_backend() -> str:
    return raised(CommandError, lambda: call_command("task_worker"))
