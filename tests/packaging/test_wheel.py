"""The built wheel, installed with its base dependencies and used from outside the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.needs import unavailable

ROOT = Path(__file__).parents[2]
SMOKE = Path(__file__).with_name("smoke.py")
# What only an extra may bring.
OPTIONAL = (
    "arq", "celery", "cronsim", "cryptography", "daphne", "django_q", "dramatiq", "jwt",
    "prometheus_client", "psycopg", "redis", "uvicorn", "uvloop", "vega_datasets", "websockets",
)  # fmt: skip


def run(command: Sequence[str | Path], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs without anything of the checkout on Python's path, warnings being errors no more."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that `WHEEL` names, else one that is built here."""
    if given := os.environ.get("WHEEL"):
        return Path(given).resolve(strict=True)
    folder = tmp_path_factory.mktemp("dist")
    built = run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], ROOT)
    assert built.returncode == 0, built.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment's interpreter, in which only the wheel and what it needs are installed."""
    folder = tmp_path_factory.mktemp("installed")
    uv = Path(sys.executable).with_name("uv")
    assert run([uv, "venv", "-q", "-p", sys.executable, folder / "env"], folder).returncode == 0
    python = folder / "env" / "bin" / "python"
    lock = ROOT / "requirements" / "dev.lock"
    installed = run([uv, "pip", "install", "-q", "-p", python, "-c", lock, wheel], folder)
    if "error sending request" in installed.stderr:
        unavailable("The package index can't be reached.")
    assert installed.returncode == 0, installed.stderr
    return python


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    """Every file of the package is in it, `py.typed` and assets too; no test, no example."""
    package = ROOT / "rail_async_tasks"
    expected = {
        str(path.relative_to(ROOT))
        for path in package.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == expected
    assert "rail_async_tasks/py.typed" in names


def test_the_base_installation_brings_no_extra(python: Path, tmp_path: Path) -> None:
    """Optional packages are not installed by themselves."""
    code = f"import importlib.util as u; print([n for n in {OPTIONAL!r} if u.find_spec(n)])"
    assert run([python, "-c", code], tmp_path).stdout.strip() == "[]"


def test_every_optional_package_is_in_the_test_environment() -> None:
    """So that the test before this one looks for names that exist."""
    assert [name for name in OPTIONAL if find_spec(name) is None] == []


def test_a_new_project_works_with_it(python: Path, tmp_path: Path) -> None:
    """Checks, migrations, the ASGI application, the schema and one task, without any extra."""
    smoke = shutil.copy(SMOKE, tmp_path)
    done = run([python, "-W", "error::RuntimeWarning", smoke], tmp_path)
    assert done.returncode == 0, done.stderr
