"""Packages from npm that tests run in a browser: installed once, bundled once per test run."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "clients"


def missing_programs() -> list[str]:
    """Which of the two programs that are needed are not installed."""
    return [name for name in ("node", "npm") if shutil.which(name) is None]


def install() -> None:
    """Install what package-lock.json names, unless that has been done. Processes take turns."""
    lock, stamp = FOLDER / "package-lock.json", FOLDER / "node_modules/.installed"
    with (FOLDER / "package.json").open() as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_bytes() == lock.read_bytes():
            return
        _run("npm", "ci", "--no-progress")
        shutil.copyfile(lock, stamp)


def bundle(entry: str, folder: Path) -> Path:
    """Bundle `tests/clients/<entry>` for a browser; returns the file in `folder`."""
    install()
    made = folder / Path(entry).name
    esbuild = str(FOLDER / "node_modules/.bin/esbuild")
    _run(esbuild, entry, "--bundle", "--format=esm", "--log-level=warning", f"--outfile={made}")
    return made


def _run(*command: str) -> None:
    ran = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{ran.stdout}{ran.stderr}")
