"""Node.js, and npm's clients: scripts that talk to a server of a test, pages for a browser."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

CLIENTS = Path(__file__).parents[1] / "clients"
SET_UP = Path(__file__).parents[2] / "scripts/set-up-node"


def node_problem() -> str | None:
    """Why the clients cannot run here; None once their packages are installed."""
    missing = [name for name in ("node", "npm") if shutil.which(name) is None]
    if missing:
        return f"No {' and no '.join(missing)}: install Node.js 18 or newer with npm."
    done = subprocess.run([SET_UP, "--packages"], capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"npm's clients cannot be installed: {done.stderr}"


def start_script(name: str, place: dict[str, Any]) -> subprocess.Popen[str]:
    """A script of `tests/clients`; it gets `place` as JSON."""
    return subprocess.Popen(
        ["node", CLIENTS / name, json.dumps(place)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish_script(script: subprocess.Popen[str], timeout: float = 300) -> Any:
    """The JSON of the script's last line. Raises where it failed, with what it said."""
    try:
        out, said = script.communicate(timeout=timeout)
    finally:
        script.kill()
    if script.returncode != 0:
        raise RuntimeError(f"{script.args} failed: {said}")
    return json.loads(out.splitlines()[-1])


def bundle(entry: str, folder: Path) -> Path:
    """Bundle a module of `tests/clients` for a browser; returns the file in `folder`."""
    made = folder / Path(entry).name
    esbuild = CLIENTS / "node_modules/.bin/esbuild"
    options = ["--bundle", "--format=esm", "--log-level=warning", f"--outfile={made}"]
    ran = subprocess.run(
        [esbuild, entry, *options], cwd=CLIENTS, capture_output=True, text=True, check=False
    )
    if ran.returncode != 0:
        raise RuntimeError(f"esbuild failed: {ran.stderr}")
    return made
