"""The versions of programs."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path


def version_of(program: Path) -> int:
    """Return the major version that a program prints; 0 if it does not run."""
    command = [str(program), "--version"]
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd="/")
    except (OSError, subprocess.CalledProcessError):
        return 0
    found = re.search(r"\b(?:v=)?(\d+)\.", done.stdout)
    return int(found[1]) if found else 0
