"""Results as people read them: a table for the terminal, Markdown for the page, and the files."""

from __future__ import annotations

import json
import os
import platform
import re
import sqlite3
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.harness import Question

PACKAGES = (
    "Django", "anyio", "asgiref", "msgspec", "psycopg", "strawberry-graphql", "uvloop",
)  # fmt: skip
HEADINGS = ("case", "measure", "here (quartiles)", "beside (quartiles)", "ratio", "target")


def result(question: Question, rows: list[dict[str, Any]], postgres: str | None) -> dict[str, Any]:
    """Returns what is kept of one run of a question."""
    return {
        "question": question.name,
        "title": question.title,
        "beside": question.beside,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": {
            "system": platform.system(),
            "architecture": platform.machine(),
            "cores": os.cpu_count(),
            "load at the end": round(os.getloadavg()[0], 1),
        },
        "versions": _versions() | ({"PostgreSQL": postgres} if postgres else {}),
        "rows": rows,
    }


def _versions() -> dict[str, str]:
    found = {"Python": platform.python_version(), "SQLite": sqlite3.sqlite_version}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def write(result: dict[str, Any], folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result['question']}.json"
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return path


def read(folder: Path, names: Iterable[str]) -> list[dict[str, Any]]:
    """The results that are there, in the order of the names."""
    paths = [folder / f"{name}.json" for name in names]
    return [json.loads(path.read_text()) for path in paths if path.exists()]


# --- tables ------------------------------------------------------------------------------


def table(result: dict[str, Any]) -> str:
    """For the terminal."""
    lines = [HEADINGS, *_cells(result)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    body = "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
    return f"{result['title']}\nBeside it: {result['beside']}\n\n{body}\n"


def markdown(result: dict[str, Any]) -> str:
    """For the page."""
    lines = [HEADINGS, ("---",) * len(HEADINGS), *_cells(result)]
    body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"Beside it: {result['beside']}.\n\n{body}\n\n{_conditions(result)}\n"


def _conditions(result: dict[str, Any]) -> str:
    machine, versions = result["machine"], result["versions"]
    software = ", ".join(f"{name} {number}" for name, number in versions.items())
    sizes = [
        len(metric["here"]["samples"])
        for row in result["rows"]
        for metric in row["metrics"].values()
    ]
    return (
        f"{result['date']}, {machine['cores']} cores ({machine['architecture']},"
        f" {machine['system']}), {min(sizes, default=0)} samples a side. {software}."
    )


def _cells(result: dict[str, Any]) -> list[Sequence[str]]:
    return [
        (
            row["label"],
            name,
            _spread(metric["here"]),
            _spread(metric["beside"]),
            _ratio(metric["ratio"]),
            _target(metric),
        )
        for row in result["rows"]
        for name, metric in row["metrics"].items()
    ]


def _spread(summary: dict[str, Any]) -> str:
    median, low, high = (_number(summary[key]) for key in ("median", "low", "high"))
    return f"{median} ({low} .. {high})"


def _ratio(summary: dict[str, Any]) -> str:
    return f"{summary['median']:.2f} ({summary['low']:.2f} .. {summary['high']:.2f})"


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def _target(metric: dict[str, Any]) -> str:
    target = metric.get("target")
    if target is None:
        return ""
    reached = metric["ratio" if target["of_ratio"] else "here"]["median"] >= target["least"]
    least = f"{target['least']:g} of it" if target["of_ratio"] else f"{target['least']:,}"
    return f"≥ {least}: {'met' if reached else 'missed'}"


# --- the page ------------------------------------------------------------------------------


def filled_in(page: str, results: Iterable[dict[str, Any]]) -> str:
    """The page with the tables of these results between their marks, `<!-- table: name -->`."""
    for one in results:
        begin, end = f"<!-- table: {one['question']} -->", "<!-- end -->"
        pattern = re.escape(begin) + r".*?" + re.escape(end)
        text = f"{begin}\n{markdown(one)}{end}"
        page, found = re.subn(pattern, lambda _, text=text: text, page, flags=re.DOTALL)
        if not found:
            raise ValueError(f"The page has no place for {one['question']}: {begin} ... {end}")
    return page
