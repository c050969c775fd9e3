"""The built wheel, installed with its base dependencies and used from outside the checkout."""

from __future__ import annotations

import shutil
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from devservers.process import ROOT
from tests.packaging.outside import LOCK, UV, new_environment, run
from tests.support.needs import unavailable

SMOKE = Path(__file__).with_name("smoke.py")
# What only an extra may bring.
OPTIONAL = (
    "arq", "celery", "cronsim", "cryptography", "daphne", "django_q", "dramatiq", "jwt",
    "prometheus_client", "psycopg", "redis", "uvicorn", "uvloop", "vega_datasets", "websockets",
)  # fmt: skip


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment's interpreter, in which only the wheel and what it needs are installed."""
    folder = tmp_path_factory.mktemp("installed")
    python = new_environment(folder / "env")
    installed = run([UV, "pip", "install", "-q", "-p", python, "-c", LOCK, wheel], folder)
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
