"""For each setting of Django that reaches into views or connections: a task over GraphQL, REST and
WebSocket to its end, and both probes.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import jwt
import pytest
from asgiref.sync import sync_to_async
from django.conf import settings as django_settings
from django.conf.urls.i18n import i18n_patterns
from django.contrib.auth.models import User
from django.core.cache import caches
from django.db import ConnectionHandler, connections
from django.test import Client
from django.urls import include, path, set_script_prefix
from psycopg import IsolationLevel

from rail_async_tasks.asgi import get_asgi_application
from rail_async_tasks.hosting import process as host
from rail_async_tasks.models import TaskExecution
from tests.django_settings.conftest import Configure
from tests.django_settings.driver import Driver
from tests.support.databases import forget_connections

KEY = "a key for tests, which is as long as it must be"
CSRF = "c" * 32

BASE = django_settings.MIDDLEWARE
POOL = {"min_size": 1, "max_size": 4}


class UrlsByLanguage:
    urlpatterns = i18n_patterns(path("", include("rail_async_tasks.urls")))


class Elsewhere:
    """A router that keeps tasks in a database of their own."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return "tasks" if model._meta.app_label == "rail_async_tasks" else None

    db_for_write = db_for_read


class Replica:
    """A router that reads from a replica, which is always behind: here it is empty for ever."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return "tasks" if model._meta.app_label == "rail_async_tasks" else None


@dataclass(frozen=True)
class Case:
    """Settings of Django, keys of the database's entry, and how the client meets the server."""

    settings: dict[str, Any] = field(default_factory=dict)
    database: dict[str, Any] = field(default_factory=dict)
    client: dict[str, Any] = field(default_factory=dict)
    postgres: bool = False
    second: bool = False  # there is a database "tasks" too
    tasks_in: str = "default"
    session: bool = False


CASES = {
    "none": Case(),
    "ATOMIC_REQUESTS": Case(database={"ATOMIC_REQUESTS": True}),
    "ATOMIC_REQUESTS, PostgreSQL": Case(database={"ATOMIC_REQUESTS": True}, postgres=True),
    "APPEND_SLASH": Case({"APPEND_SLASH": False}),
    "FORCE_SCRIPT_NAME, kept": Case({"FORCE_SCRIPT_NAME": "/shop"}, client={"prefix": "/shop"}),
    "FORCE_SCRIPT_NAME, cut off": Case({"FORCE_SCRIPT_NAME": "/shop"}),
    "root_path": Case(client={"prefix": "/shop", "root_path": "/shop"}),
    "SECURE_SSL_REDIRECT": Case(
        {"SECURE_SSL_REDIRECT": True, "SECURE_REDIRECT_EXEMPT": ["tasks/health/"]},
        client={"scheme": "https"},
    ),
    "a session": Case(session=True),
    "CSRF_USE_SESSIONS": Case({"CSRF_USE_SESSIONS": True}, session=True),
    "CSRF_COOKIE_HTTPONLY": Case({"CSRF_COOKIE_HTTPONLY": True}, session=True),
    "SESSION_ENGINE": Case(
        {"SESSION_ENGINE": "django.contrib.sessions.backends.cache"}, session=True
    ),
    "a per-site cache": Case(
        {
            "MIDDLEWARE": [
                "django.middleware.cache.UpdateCacheMiddleware",
                *BASE,
                "django.middleware.cache.FetchFromCacheMiddleware",
            ]
        },
        session=True,
    ),
    "ConditionalGet and GZip": Case(
        {
            "MIDDLEWARE": [
                "django.middleware.gzip.GZipMiddleware",
                "django.middleware.http.ConditionalGetMiddleware",
                *BASE,
            ]
        }
    ),
    "LocaleMiddleware": Case(
        {
            "MIDDLEWARE": [*BASE, "django.middleware.locale.LocaleMiddleware"],
            "ROOT_URLCONF": UrlsByLanguage,
            "USE_I18N": True,
        },
        client={"prefix": "/de"},
    ),
    "LoginRequiredMiddleware": Case(
        {"MIDDLEWARE": [*BASE, "django.contrib.auth.middleware.LoginRequiredMiddleware"]}
    ),
    "DATABASE_ROUTERS, elsewhere": Case(
        {"DATABASE_ROUTERS": [f"{__name__}.Elsewhere"]}, second=True, tasks_in="tasks"
    ),
    "DATABASE_ROUTERS, a replica": Case({"DATABASE_ROUTERS": [f"{__name__}.Replica"]}, second=True),
    "TIME_ZONE of the database": Case(database={"TIME_ZONE": "Asia/Tokyo"}),
    "TIME_ZONE of the database, PostgreSQL": Case(
        database={"TIME_ZONE": "Asia/Tokyo"}, postgres=True
    ),
    "USE_TZ": Case({"USE_TZ": False, "TIME_ZONE": "America/Chicago"}),
    "USE_TZ, PostgreSQL": Case({"USE_TZ": False, "TIME_ZONE": "America/Chicago"}, postgres=True),
    "CONN_HEALTH_CHECKS": Case(database={"CONN_HEALTH_CHECKS": True}, postgres=True),
    "a pool": Case(database={"OPTIONS": {"pool": POOL}, "CONN_HEALTH_CHECKS": True}, postgres=True),
    "DISABLE_SERVER_SIDE_CURSORS": Case(
        database={"DISABLE_SERVER_SIDE_CURSORS": True}, postgres=True
    ),
    "REPEATABLE READ": Case(
        database={"OPTIONS": {"isolation_level": IsolationLevel.REPEATABLE_READ}}, postgres=True
    ),
    "SERIALIZABLE": Case(
        database={"OPTIONS": {"isolation_level": IsolationLevel.SERIALIZABLE}}, postgres=True
    ),
    "DEBUG": Case({"DEBUG": True}),
}
PARAMS = [
    pytest.param(
        "postgres" if case.postgres else "sqlite",
        name,
        id=name,
        marks=[pytest.mark.postgres] if case.postgres else [],
    )
    for name, case in CASES.items()
]


@pytest.fixture
def second_database(database: Any, sqlite_config: dict[str, Any], tmp_path: Any) -> Iterator[None]:
    """`tasks`: another database with the same tables."""
    copy = tmp_path / "tasks.sqlite3"
    shutil.copy(sqlite_config["NAME"], copy)
    entry = {**connections.settings["default"], "NAME": str(copy)}
    complete = ConnectionHandler({"default": {}, "tasks": entry}).settings["tasks"]
    connections.settings["tasks"] = complete
    yield
    forget_connections()
    del connections.settings["tasks"]


@pytest.fixture
def case(database: Any, name: str, settings: Any, request: pytest.FixtureRequest) -> Iterator[Case]:
    """The settings of the case are in force."""
    found = CASES[name]
    if found.second:
        request.getfixturevalue("second_database")
    config = connections.settings["default"]
    before = dict(config)
    config.update(found.database)
    for key, value in found.settings.items():
        setattr(settings, key, value)
    forget_connections()
    try:
        yield found
    finally:
        if "pool" in config["OPTIONS"]:
            connections["default"].close_pool()
        forget_connections()
        config.clear()
        config.update(before)
        caches["default"].clear()
        set_script_prefix("/")


@pytest.fixture
async def driver(case: Case, configure: Configure, running: None) -> Driver:
    """A client with the credential of a user."""
    configure(backend="asyncio", jwt={"key": KEY, "algorithms": ["HS256"]})
    user = await User.objects.acreate(username="ada")
    application = get_asgi_application()
    if case.session:
        headers = await sync_to_async(session_of)(user)
        return Driver(application, headers, **case.client)
    token = jwt.encode({"sub": str(user.pk), "exp": time.time() + 3600}, KEY, "HS256")
    bearer = f"Bearer {token}"
    return Driver(application, {"authorization": bearer}, {"authorization": bearer}, **case.client)


def session_of(user: User) -> dict[str, str]:
    """The headers of a browser that has logged in."""
    client = Client()
    client.force_login(user)
    session = client.session
    session["_csrftoken"] = CSRF
    session.save()
    cookie = f"sessionid={client.cookies['sessionid'].value}; csrftoken={CSRF}"
    return {"cookie": cookie, "x-csrftoken": CSRF, "origin": "http://localhost"}


@pytest.mark.parametrize(("database", "name"), PARAMS, indirect=["database"])
async def test_tasks_and_probes(driver: Driver, case: Case) -> None:
    """The mutation's row is committed when it is answered; every edge shows the task completed."""
    started = (await driver.graphql("mutation { add(a: 1) { taskId status } }"))["add"]
    task_id = started["taskId"]
    assert await TaskExecution.objects.using(case.tasks_in).filter(id=task_id).aexists()
    assert await driver.followed(task_id) == "completed"

    again = await driver.http("POST", f"/api/v1/tasks/{task_id}/retry/")
    assert again.status == 201, again.body
    retried = again.json()["id"]
    public = case.settings.get("FORCE_SCRIPT_NAME", driver.prefix)
    assert again.headers["location"] == f"{public}/api/v1/tasks/{retried}/"
    assert await driver.followed(retried) == "completed"
    document = (await driver.http("GET", "/api/v1/openapi.json")).json()
    assert document["servers"] == [{"url": public or "/"}]
    shown = (await driver.http("GET", f"/api/v1/tasks/{retried}/")).json()
    assert (shown["result"], shown["created_at"][-1]) == (3, "Z")

    mutation = "mutation { add(a: 2) { taskId } }"
    watch = 'subscription { taskProgress(taskId: "%s") { id status result ownerId } }'
    (_, last) = await driver.over_socket(mutation, watch)
    final = last["taskProgress"]
    assert (final["status"], final["result"], final["ownerId"]) == (
        "completed", 4, shown["owner_id"],
    )  # fmt: skip
    listed = (await driver.http("GET", "/graphql/?query={tasks{id}}")).json()["data"]["tasks"]
    assert [it["id"] for it in listed] == [final["id"], retried, task_id]

    probe = Driver(driver.application, prefix=driver.prefix, root_path=driver.root_path)
    for url in ("/tasks/health/live", "/tasks/health/ready"):
        answer = await probe.http("GET", url)
        assert (answer.status, answer.json()["status"]) == (200, "ok")
    assert host.hosted() is not None
