"""The fixtures of the suite do what tests rely on."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import connection, connections, transaction

from tests.support.databases import Database

ROOT = Path(__file__).parents[1]
VENDORS = {"sqlite": "sqlite", "postgres": "postgresql"}


def test_default_is_the_wanted_server_in_every_thread(database: Database) -> None:
    """A row committed here is seen by another thread's own connection, on the same server."""
    User.objects.create(username="ada")
    seen: list[Any] = []

    def look() -> None:
        try:
            seen.extend([connection.vendor, User.objects.get().username])
        finally:
            connections.close_all()

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [VENDORS[database.kind], "ada"]


@pytest.mark.parametrize("_time", [1, 2])
def test_the_tables_are_empty_whatever_ran_before(database: Database, _time: int) -> None:
    """Rows of a test, those of an open transaction included, are gone in the next one."""
    assert User.objects.count() == 0
    User.objects.create(username="kept by commit")
    transaction.set_autocommit(False)
    User.objects.create(username="left open")


async def test_async_orm_calls_use_it_too(database: Database, loop_kind: str) -> None:
    """`a…` methods run in asgiref's thread, which outlives the test, on the wanted server."""
    await User.objects.acreate(username="grace")
    assert await User.objects.acount() == 1
    vendor = await sync_to_async(lambda: connection.vendor)()
    assert vendor == VENDORS[database.kind]


def test_another_process_can_open_it(database: Database) -> None:
    """`env` points a process that uses `tests.settings` at the same database."""
    User.objects.create(username="ada")
    code = (
        "import django; django.setup()\n"
        "from django.contrib.auth.models import User\n"
        "print(User.objects.get().username)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | database.env | {"DJANGO_SETTINGS_MODULE": "tests.settings"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "ada"


async def test_loop_kind_is_the_loop(loop_kind: str) -> None:
    """A test that asks for `loop_kind` runs in that loop."""
    module = type(asyncio.get_running_loop()).__module__
    assert module.startswith("uvloop") == (loop_kind == "uvloop")


async def test_a_coroutine_test_runs_in_asyncios_loop_by_itself() -> None:
    """No test gets uvloop without asking."""
    assert type(asyncio.get_running_loop()).__module__.startswith("asyncio")
