"""The wheel, and environments in which nothing of the checkout is found."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from devservers.process import ROOT
from tests.packaging.outside import run


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that `WHEEL` names, else one that is built here."""
    if given := os.environ.get("WHEEL"):
        return Path(given).resolve(strict=True)
    folder = tmp_path_factory.mktemp("dist")
    built = run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], ROOT)
    assert built.returncode == 0, built.stderr
    return next(folder.glob("*.whl"))
