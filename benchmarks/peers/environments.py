"""Makes the environments of other task systems: `.peers/NAME`, from `requirements/NAME.txt`.

They are no part of the project's lock file: nothing but a comparison uses them. One that is there
is used again until its requirements or the Python change.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

from benchmarks.environment import ROOT

FOLDER = ROOT / ".peers"
REQUIREMENTS = Path(__file__).with_name("requirements")
# A first line such as `# python 3.12`: what does not run on the oldest Python that we support.
NEEDS = re.compile(r"# python (\d+)\.(\d+)")


def ready(names: Iterable[str], log: Callable[[str], None]) -> dict[str, Path]:
    """Returns the interpreters of these environments. One that can't be made is left out."""
    pythons = {}
    for name in sorted(names):
        try:
            pythons[name] = _ready(name, log)
        except subprocess.CalledProcessError as error:
            log(f"{name}: {' '.join(map(str, error.cmd))} ended with {error.returncode}")
    return pythons


def _ready(name: str, log: Callable[[str], None]) -> Path:
    requirements = REQUIREMENTS / f"{name}.txt"
    text = requirements.read_text()
    python = FOLDER / name / "bin" / "python"
    stamp = FOLDER / name / "stamp"
    base = _interpreter(text)
    state = hashlib.sha256(f"{base} {text}".encode()).hexdigest()
    if not (stamp.exists() and stamp.read_text() == state and python.exists()):
        log(f"Making {FOLDER / name}")
        uv = str(Path(sys.executable).with_name("uv"))
        _run(uv, "venv", "--quiet", "--clear", "--python", base, FOLDER / name)
        _run(uv, "pip", "install", "--quiet", "--python", python, "-r", requirements)
        stamp.write_text(state)
    return python


def _interpreter(requirements: str) -> str:
    """This process's own Python, or the one that the requirements ask for."""
    needed = NEEDS.match(requirements)
    if needed is None or sys.version_info >= (int(needed[1]), int(needed[2])):
        return sys.executable
    command = [ROOT / "scripts" / "find-python", f"{needed[1]}.{needed[2]}"]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return found.stdout.strip()


def _run(*command: object) -> None:
    subprocess.run(list(map(str, command)), cwd=ROOT, check=True)


@cache
def versions(name: str) -> dict[str, str]:
    """The versions of the Python and of what the requirements name; none where nothing is made."""
    python = FOLDER / name / "bin" / "python"
    if not python.exists():
        return {}
    lines = (REQUIREMENTS / f"{name}.txt").read_text().splitlines()
    packages = [re.split(r"[\[<>=~; ]", line)[0] for line in lines if line and line[0] != "#"]
    program = (
        "import json, platform, sys; from importlib.metadata import version;"
        "print(json.dumps({'Python': platform.python_version()}"
        " | {name: version(name) for name in sys.argv[1:]}))"
    )
    found = subprocess.run(
        [python, "-c", program, *packages], check=True, stdout=subprocess.PIPE, text=True
    )
    parsed: dict[str, str] = json.loads(found.stdout)
    return parsed
