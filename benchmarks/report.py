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

from benchmarks import charts
from benchmarks.harness import Question

PACKAGES = (
    "Django", "anyio", "asgiref", "msgspec", "psycopg", "redis", "strawberry-graphql", "uvloop",
)  # fmt: skip
HEADINGS = ("case", "measure", "here (quartiles)", "beside (quartiles)", "ratio", "target")


def result(question: Question, rows: list[dict[str, Any]], postgres: str | None) -> dict[str, Any]:
    """Returns what is kept of one run of a question."""
    return {
        "question": question.name,
        "title": question.title,
        "short": question.short,
        "beside": question.beside,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": {
            "system": platform.system(),
            "architecture": platform.machine(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "load at the end": round(os.getloadavg()[0], 1),
        },
        "versions": _versions() | ({"PostgreSQL": postgres} if postgres else {}),
        "rows": rows,
    }


def _processor() -> str:
    """The name that Linux has for it; "" where there is none."""
    try:
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    except OSError:
        return ""
    return found[1].strip() if found else ""


def _versions() -> dict[str, str]:
    found = {"Python": platform.python_version(), "SQLite": sqlite3.sqlite_version}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def write(result: dict[str, Any], folder: Path, *, piece: bool = False) -> Path:
    """Keeps a result, in place of an older one; a piece is joined with that."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result['question']}.json"
    if piece and path.exists():
        result = joined(json.loads(path.read_text()), result)
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return path


def read(folder: Path, names: Iterable[str]) -> list[dict[str, Any]]:
    """The results that are there, in the order of the names."""
    paths = [folder / f"{name}.json" for name in names]
    return [json.loads(path.read_text()) for path in paths if path.exists()]


def joined(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The new result, with the old one's cases, and their sides, that were not measured again.

    A long question may be measured in pieces: a side's ratio is to our own samples of its piece.
    """
    rows = {row["label"]: row for row in old["rows"]}
    for row in new["rows"]:
        if "sides" in row and row["label"] in rows:
            before = {side["label"]: side for side in rows[row["label"]]["sides"]}
            measured = {side["label"]: side for side in row["sides"]}
            row = {**row, "sides": list((before | measured).values())}
        rows[row["label"]] = row
    return {**new, "rows": list(rows.values())}


# --- tables ------------------------------------------------------------------------------


def table(result: dict[str, Any]) -> str:
    """For the terminal."""
    text = "\n\n".join(_aligned(lines) for lines in _tables(result))
    return f"{result['title']}\nBeside it: {result['beside']}\n\n{text}\n"


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def markdown(result: dict[str, Any]) -> str:
    """For the page."""
    chart = f"![{result['title']}]({charts.FOLDER}/{result['question']}.svg)"
    body = "\n\n".join(_marked(lines) for lines in _tables(result))
    return f"Beside it: {result['beside']}.\n\n{chart}\n\n{body}\n\n{_conditions(result)}\n"


def _marked(lines: Sequence[Sequence[str]]) -> str:
    head, *rest = lines
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ("---",) * len(head), *rest))


def _tables(result: dict[str, Any]) -> list[list[Sequence[str]]]:
    """One of all cases with two sides, and one of each comparison."""
    pairs = [row for row in result["rows"] if "sides" not in row]
    tables = [[HEADINGS, *_cells(pairs)]] if pairs else []
    return tables + [_compared(row) for row in result["rows"] if "sides" in row]


def _conditions(result: dict[str, Any]) -> str:
    machine, versions = result["machine"], dict(result["versions"])
    for row in result["rows"]:
        for side in row.get("sides", ()):
            peer = side["versions"]
            python = peer.get("Python", versions["Python"])
            on = f" (on Python {python})" if python != versions["Python"] else ""
            versions |= {
                name: number + on
                for name, number in peer.items()
                if name != "Python" and name not in versions
            }
    software = ", ".join(f"{name} {number}" for name, number in versions.items())
    samples = min(_samples(result["rows"]), default=0)
    return (
        f"{result['date']}, {machine['cores']} cores ({machine['architecture']},"
        f" {machine['system']}), load {machine['load at the end']} at the end, at least"
        f" {samples} samples a side. {software}."
    )


def _samples(rows: Iterable[dict[str, Any]]) -> Iterable[int]:
    for row in rows:
        for metric in row.get("metrics", {}).values():
            yield len(metric["here"]["samples"])
        for side in row.get("sides", ()):
            for metric in side.get("metrics", {}).values():
                yield len(metric["samples"])


def _cells(rows: Iterable[dict[str, Any]]) -> list[Sequence[str]]:
    return [
        (
            row["label"],
            name,
            _spread(metric["here"]),
            _spread(metric["beside"]),
            _ratio(metric["ratio"]),
            _target(metric),
        )
        for row in rows
        for name, metric in row["metrics"].items()
    ]


def _compared(row: dict[str, Any]) -> list[Sequence[str]]:
    """A comparison: its sides, the first of them ours, and the targets that are about them."""
    metric = row["metric"]
    costs = [name for name in row["sides"][0]["metrics"] if name.startswith("CPU")]
    head = (row["label"], f"{metric} (quartiles)", "ours / it", *costs, "the same work?")
    lines = [head]
    for number, side in enumerate(row["sides"]):
        if "failure" in side:
            lines.append((side["label"], side["failure"], "", *("" for _ in costs), side["note"]))
            continue
        ratio = "" if number == 0 else _ratio(side["ratios"][metric])
        lines.append(
            (
                side["label"],
                _spread(side["metrics"][metric]),
                ratio + (_reached(row, side) if number else ""),
                *(_number(side["metrics"][name]["median"]) for name in costs),
                "" if number == 0 else side["note"],
            )
        )
    return lines


def _reached(row: dict[str, Any], side: dict[str, Any]) -> str:
    reached = side["ratios"][row["metric"]]["median"]
    return "".join(
        f"; ≥ {target['least']:g}: {'met' if reached >= target['least'] else 'missed'}"
        for target in row.get("targets", ())
        if side["label"].startswith(target["of"])
    )


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


OVERVIEW = "overview"


def overview(results: Iterable[dict[str, Any]]) -> str:
    """A table of every comparison: ours beside the fastest other side, and the ratio."""
    lines = [("question", "case", "ours", "the fastest other", "", "ours / it")]
    for one in results:
        for row in one["rows"]:
            found = _fastest(row) if "sides" in row and one.get("short") else None
            if found is not None:
                lines.append((one["short"], row["label"], *found))
    return _marked(lines)


def _fastest(row: dict[str, Any]) -> tuple[str, ...] | None:
    """The cells of the overview's line on a comparison; None where no other side has figures."""
    metric, (ours, *others) = row["metric"], row["sides"]
    others = [side for side in others if side["peer"] and "metrics" in side]
    if not others:
        return None
    best = max(others, key=lambda side: side["metrics"][metric]["median"])
    ratio = best["ratios"][metric]["median"]
    return (
        f"{_number(ours['metrics'][metric]['median'])} {metric}",
        best["label"],
        f"{_number(best['metrics'][metric]['median'])} {metric}",
        f"{ratio:.2f}, {'ahead' if ratio > 1 else '**behind**'}",
    )


# A question without kept results.
_NO_FIGURES = "No figures are kept of this question yet: `make bench ARGS={}` takes them."


def filled_in(page: str, results: Iterable[dict[str, Any]]) -> str:
    """The page with the tables of these results between their marks, `<!-- table: name -->`."""
    results = list(results)
    if _mark(OVERVIEW) in page:
        page = _put(page, OVERVIEW, f"{overview(results)}\n")
    for one in results:
        page = _put(page, one["question"], markdown(one))
    return re.sub(
        r"<!-- table: (\w+) -->\n<!-- end -->",
        lambda empty: f"{_mark(empty[1])}\n{_NO_FIGURES.format(empty[1])}\n<!-- end -->",
        page,
    )


def _put(page: str, name: str, text: str) -> str:
    begin, end = _mark(name), "<!-- end -->"
    pattern = re.escape(begin) + r".*?" + re.escape(end)
    whole = f"{begin}\n{text}{end}"
    page, found = re.subn(pattern, lambda _: whole, page, flags=re.DOTALL)
    if not found:
        raise ValueError(f"The page has no place for {name}: {begin} ... {end}")
    return page


def _mark(name: str) -> str:
    return f"<!-- table: {name} -->"
