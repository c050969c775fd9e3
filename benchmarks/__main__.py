"""The command: `python -m benchmarks [--quick] [question...]`."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from benchmarks import charts, report
from benchmarks.databases import Databases
from benchmarks.environment import ROOT
from benchmarks.harness import Question, run

QUESTIONS = (
    "peers_tracked", "peers_bulk", "peers_workers", "peers_brokers",
    "memory_throughput", "tracked_throughput", "start_latency", "progress_latency",
    "progress_across", "start_across", "endpoint", "deliveries", "connections", "idle", "growth",
    "sleeps", "processes_on_one_database", "bulk_rows", "startup", "neighbours", "costs",
)  # fmt: skip
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "performance.md"
CHARTS = PAGE.parent / charts.FOLDER


def question(name: str) -> Question:
    found: Question = import_module(f"benchmarks.{name}").QUESTION
    return found


def main(arguments: list[str] | None = None) -> None:
    # So that servers and workers end with a run that is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("Ended by a signal."))
    options = _parser().parse_args(arguments)
    names = options.questions or QUESTIONS
    if unknown := set(names) - set(QUESTIONS):
        sys.exit(f"Unknown: {', '.join(sorted(unknown))}. The questions: {', '.join(QUESTIONS)}.")
    if options.markdown or options.page:
        _show_kept(options, names)
        return
    # What is quick or partial says nothing about speed, and is kept only where that is asked for.
    piece = bool(options.only or options.sides)
    partial = options.quick or piece
    folder = options.results or (None if partial else RESULTS)
    with Databases() as databases:
        for name in names:
            asked = question(name)
            rows = run(
                asked,
                databases,
                quick=options.quick,
                repeats=options.repeats,
                only=options.only,
                sides=options.sides,
                log=lambda line: print(line, file=sys.stderr, flush=True),
            )
            if not rows:
                continue
            result = report.result(asked, rows, databases.postgres_version)
            print(f"\n{report.table(result)}", flush=True)
            if folder is not None:
                report.write(result, folder, piece=piece)


def _show_kept(options: argparse.Namespace, names: Sequence[str]) -> None:
    folder = options.results or RESULTS
    if not options.page:
        for result in report.read(folder, names):
            print(f"### {result['title']}\n\n{report.markdown(result)}")
        return
    kept = report.read(folder, QUESTIONS)
    PAGE.write_text(report.filled_in(PAGE.read_text(), kept))
    CHARTS.mkdir(parents=True, exist_ok=True)
    for result in kept:
        (CHARTS / f"{result['question']}.svg").write_text(charts.drawn(result))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("questions", nargs="*", metavar="question", help=", ".join(QUESTIONS))
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it still run?")
    parser.add_argument("--repeats", type=int, help="samples per side (default: the question's)")
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose label has TEXT")
    parser.add_argument(
        "--sides", default="", metavar="TEXT,TEXT", help="peers whose label has one of these"
    )
    parser.add_argument(
        "--results", type=Path, metavar="FOLDER", help="where results go, or are read from"
    )
    parser.add_argument("--markdown", action="store_true", help="print the kept results; run none")
    parser.add_argument("--page", action="store_true", help="put them into docs/performance.md")
    return parser


if __name__ == "__main__":
    main()
