"""Runs mypy and pyright over `programs/` and the page on types, and reads what must be found.

A marker ends a line: `# E: arg-type, reportArgumentType`, mypy's codes and then pyright's rules,
several parted by spaces, `-` for none. Without a marker a line has no error.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.services.node import CLIENTS

ROOT: Final = Path(__file__).parents[2]
PROGRAMS: Final = Path(__file__).parent / "programs"
PAGE: Final = ROOT / "docs/typing.md"
PYRIGHT: Final = CLIENTS / "node_modules/pyright"
MARKER: Final = re.compile(r"# E: ([\w -]+), ([\w -]+)$")
CHECKERS: Final = ("mypy", "pyright")

# Errors as `file:line code`.
Found = list[str]


def expected(checker: str) -> Found:
    """Returns the errors that the markers promise of one checker."""
    column = CHECKERS.index(checker) + 1
    return sorted(
        f"{path.name}:{number} {code}"
        for path in PROGRAMS.glob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if (marker := MARKER.search(line))
        for code in marker[column].split()
        if code != "-"
    )


def found_by_mypy(folder: Path) -> tuple[Found, str]:
    """Returns the errors of mypy, as strict as for the package and by its cache; and the output.

    `folder` is empty.
    """
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", "--output", "json", PROGRAMS, write_page(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    said = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]
    errors = {
        f"{Path(it['file']).name}:{it['line']} {it['code']}"
        for it in said
        if it["severity"] == "error"
    }
    return sorted(errors), ran.stdout + ran.stderr


def found_by_pyright(folder: Path) -> tuple[Found, str]:
    """Returns pyright's errors and its output; it works in `folder`, which is empty."""
    make_project(folder)
    ran = subprocess.run(
        ["node", PYRIGHT / "index.js", "--outputjson", "--project", folder],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    said = json.loads(ran.stdout)["generalDiagnostics"] if ran.stdout.startswith("{") else []
    errors = {
        f"{Path(it['file']).name}:{it['range']['start']['line'] + 1} {it.get('rule', 'syntax')}"
        for it in said
        if it["severity"] == "error"
    }
    return sorted(errors), ran.stdout + ran.stderr


def make_project(folder: Path) -> None:
    """Copy the programs into a project of pyright's, in which our package is an installed one."""
    shutil.copytree(PROGRAMS, folder / "programs")
    write_page(folder)
    environment = Path(sys.prefix)
    options = {"venvPath": str(environment.parent), "venv": environment.name}
    (folder / "pyrightconfig.json").write_text(json.dumps(options))


def write_page(folder: Path) -> Path:
    """Write the Python blocks of the page on types as one program; returns its file."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    path = folder / "page.py"
    path.write_text("\n".join(blocks))
    return path
