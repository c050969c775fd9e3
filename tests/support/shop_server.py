"""A uvicorn with the schema of `projects.shop`, on a database of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from devservers.process import ROOT
from tests.support.server import Server
from tests.support.server_kinds import ASGI, uvicorn

# One process for all commands: each start takes a second.
_MANAGE = """
import sys
from django.core.management import execute_from_command_line
for command in sys.argv[1:]:
    execute_from_command_line(["manage.py", *command.split()])
"""


def migrated(folders: pytest.TempPathFactory, settings: str, *commands: str) -> dict[str, str]:
    """Make a database and run more management commands. Return the environment of its servers."""
    env = {
        "DJANGO_SETTINGS_MODULE": settings,
        "TEST_DATABASE": "sqlite",
        "TEST_DATABASE_URL": f"sqlite:///{folders.mktemp('database')}/db.sqlite3",
    }
    manage = [sys.executable, "-c", _MANAGE, "migrate --verbosity=0", *commands]
    subprocess.run(manage, env=os.environ | env | {"PYTHONPATH": str(ROOT)}, check=True)
    return env


@contextmanager
def serving(
    env: Mapping[str, str],
    application: str = ASGI,
    *,
    port: int | None = None,
    loop: str = "auto",
) -> Iterator[Server]:
    """Serve on a free port, or on this one; `loop` is uvicorn's option."""
    server = Server(env, kind=uvicorn("uvicorn", loop, application), port=port, forked=True)
    try:
        server.wait_until_it_answers()
        yield server
    finally:
        server.stop()


@contextmanager
def running_shop(
    folders: pytest.TempPathFactory, *, loop: str = "auto", template: Path | None = None
) -> Iterator[Server]:
    """Serve the shop with a database of its own: a copy of the fixture `sqlite_template`, if given.

    To migrate one takes two seconds of CPU.
    """
    settings = "tests.projects.shop_settings"
    if template is None:
        env = migrated(folders, settings)
    else:
        path = shutil.copy(template, folders.mktemp("database") / "db.sqlite3")
        env = {
            "DJANGO_SETTINGS_MODULE": settings,
            "TEST_DATABASE": "sqlite",
            "TEST_DATABASE_URL": f"sqlite:///{path}",
        }
    with serving(env, loop=loop) as server:
        yield server
