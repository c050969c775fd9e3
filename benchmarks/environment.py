"""The place of the repository, and the environment of a process that a benchmark starts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]


def child_environment(*more: Mapping[str, str]) -> dict[str, str]:
    """Returns this process's environment and more, for a process that is to start quickly."""
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "benchmarks.settings"}
    # Where it is set, every start would compile all packages anew.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    for part in more:
        environment |= part
    return environment


def peer_environment(*more: Mapping[str, str]) -> dict[str, str]:
    """The same for another task system, which knows nothing of our settings."""
    environment = child_environment(*more)
    del environment["DJANGO_SETTINGS_MODULE"]
    return environment
