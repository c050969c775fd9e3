"""Figures that a test measures, kept for a report."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def spread(figures: Sequence[float]) -> str:
    """Least, median and most."""
    low, middle, high = min(figures), statistics.median(figures), max(figures)
    return f"min {low:.2f} median {middle:.2f} max {high:.2f}"


def report(test: str, **figures: Any) -> None:
    """Keeps what was measured: a line of JSON in the file that `FAULTS_REPORT` names, if any."""
    line = json.dumps({"test": test, **figures})
    if path := os.environ.get("FAULTS_REPORT"):
        with Path(path).open("a") as file:
            file.write(line + "\n")
