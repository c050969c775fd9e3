"""The tools for tests, run as a project runs them: by pytest and by Django, each in a process."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "tests" / "projects" / "library"
MEMORY = {"ENGINE": "django.db.backends.sqlite3", "NAME": "not-made", "TEST": {"NAME": ":memory:"}}
ASYNCIO = ("-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function")
ANYIO = ("-p", "no:asyncio", "-o", "anyio_mode=auto")


def run(
    tmp_path: Path, *command: str, database: dict[str, Any] = MEMORY, **task_settings: Any
) -> str:
    """Runs a command of the library project; returns its output. Fails where the command does."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "DJANGO_SETTINGS_MODULE": "tests.projects.library.settings",
            "LIBRARY_DATABASE": json.dumps(database),
            "LIBRARY_TASK_SETTINGS": json.dumps(task_settings),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def run_pytest(tmp_path: Path, *arguments: str, **options: Any) -> int:
    """Runs pytest in a project of its own, where every warning is an error; returns how many
    tests passed. None may fail or be skipped."""
    ini = tmp_path / "pytest.ini"
    ini.write_text("[pytest]\nfilterwarnings = error\n")
    # None of this suite's own configuration.
    own = ("-c", str(ini), "--rootdir", str(tmp_path), "--noconftest", "-p", "no:cacheprovider")
    output = run(tmp_path, "pytest", "-q", *own, *arguments, **options)
    assert not re.search(r"skipped|warning|xfail", output), output
    (passed,) = re.findall(r"(\d+) passed", output)
    return int(passed)


def file(name: str) -> str:
    return str(LIBRARY / f"{name}.py")


def postgres(server: Any) -> dict[str, Any]:
    from tests.settings import database

    return database("postgres", server.create_database("library"))


@pytest.mark.long  # `test_on_postgres` runs the same tests
def test_under_pytest_django_and_pytest_asyncio(tmp_path: Path) -> None:
    """Every tool in `db`, `transactional_db`, coroutine tests and Django's test cases, shuffled."""
    files = map(file, ("under_pytest", "under_pytest_async", "under_django"))
    assert run_pytest(tmp_path, *files, *ASYNCIO) > 60


@pytest.mark.long
def test_under_pytest_xdist_and_anyio(tmp_path: Path) -> None:
    """The same tests in two processes, the coroutines by anyio's plugin."""
    files = map(file, ("under_pytest_async", "under_django"))
    assert run_pytest(tmp_path, "-n", "2", "-k", "not trio", *files, *ANYIO) > 30


@pytest.mark.postgres
def test_on_postgres(tmp_path: Path, postgres_server: Any) -> None:
    """Every tool in `db`, `transactional_db`, coroutine tests and Django's test cases, shuffled.

    On connections of its own: none is left that keeps the test database from its end. The
    clock of a transaction stands still there.
    """
    files = map(file, ("under_pytest", "under_pytest_async", "under_django"))
    options = {"database": postgres(postgres_server)}
    assert run_pytest(tmp_path, *files, *ASYNCIO, **options) > 60


@pytest.mark.postgres
def test_beside_tests_that_start_a_runtime(tmp_path: Path, postgres_server: Any) -> None:
    """Tests with the tools end it first; the last test's ends before its database is dropped."""
    options = {"database": postgres(postgres_server), "bus": "memory"}
    arguments = (file("under_pytest_live"), "-p", "no:randomly", *ANYIO)
    assert run_pytest(tmp_path, *arguments, **options) == 4


@pytest.mark.parametrize("plugin", [ANYIO, pytest.param(ASYNCIO, marks=pytest.mark.long)])
def test_a_runtime_in_the_last_tests_loop(tmp_path: Path, plugin: tuple[str, ...]) -> None:
    """The test's own fixtures still find it, and end it."""
    arguments = (file("under_pytest_loop"), "-k", "not trio", *plugin)
    assert run_pytest(tmp_path, *arguments, track_in_database=False, bus="memory") == 1


def test_in_memory(tmp_path: Path) -> None:
    """Executions are not rows there, and end with the test all the same."""
    arguments = (file("under_pytest_memory"), *ASYNCIO)
    assert run_pytest(tmp_path, *arguments, track_in_database=False) == 3


@pytest.mark.parametrize(
    "options", [(), pytest.param(("--parallel=2", "--shuffle=7"), marks=pytest.mark.long)]
)
def test_under_djangos_runner(tmp_path: Path, options: tuple[str, ...]) -> None:
    command = ("django", "test", "--pattern", "under_django.py", *options)
    output = run(tmp_path, *command, "tests.projects.library")
    assert re.search(r"Ran 16 tests.*\n\nOK", output, re.DOTALL), output


def test_a_project_without_django(tmp_path: Path) -> None:
    """The plugin is loaded there too, and imports nothing."""
    (tmp_path / "test_it.py").write_text(
        "import sys\n"
        "def test_it(request):\n"
        "    assert request.config.pluginmanager.hasplugin('rail_async_tasks')\n"
        "    ours = [name for name in sys.modules if name.startswith('rail_async_tasks')]\n"
        "    assert sorted(ours) == ['rail_async_tasks', 'rail_async_tasks.testing',\n"
        "                            'rail_async_tasks.testing.plugin']\n"
        "    assert 'django.db' not in sys.modules\n"
    )
    plain = ("-p", "no:django", "-p", "no:asyncio", "-p", "no:anyio", "test_it.py")
    assert run_pytest(tmp_path, *plain) == 1
