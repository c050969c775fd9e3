"""Environments of their own, in which only the wheel and what it needs are installed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from devservers.process import ROOT

UV = Path(sys.executable).with_name("uv")
LOCK = ROOT / "requirements" / "dev.lock"


def run(command: Sequence[str | Path], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs without anything of the checkout on Python's path, warnings being errors no more."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)


def new_environment(folder: Path, *options: str) -> Path:
    """Makes an environment; returns its interpreter. `--seed` brings pip."""
    made = run([UV, "venv", "-q", *options, "-p", sys.executable, folder], folder.parent)
    assert made.returncode == 0, made.stderr
    return folder / "bin" / "python"


def locked_versions() -> list[str]:
    """Returns the lines of the lock without hashes, which pip would want of the wheel too."""
    lines = (line.rstrip(" \\") for line in LOCK.read_text().splitlines())
    return [line for line in lines if line and line[0] not in " #"]
