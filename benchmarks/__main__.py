"""The command: `python -m benchmarks [--quick] [question...]`."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path

from benchmarks import report
from benchmarks.databases import Databases
from benchmarks.environment import ROOT
from benchmarks.harness import Question, run

QUESTIONS = (
    "memory_throughput", "tracked_throughput", "start_latency", "progress_latency",
    "worker_throughput", "progress_across", "endpoint", "startup", "neighbours",
)  # fmt: skip
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "performance.md"


def question(name: str) -> Question:
    found: Question = import_module(f"benchmarks.{name}").QUESTION
    return found


def main(arguments: list[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    names = options.questions or QUESTIONS
    if unknown := set(names) - set(QUESTIONS):
        sys.exit(f"Unknown: {', '.join(sorted(unknown))}. The questions: {', '.join(QUESTIONS)}.")
    if options.markdown or options.page:
        _show_kept(options, names)
        return
    # What is quick or partial says nothing about speed, and is kept only where that is asked for.
    partial = options.quick or options.only
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
                log=lambda line: print(line, file=sys.stderr, flush=True),
            )
            if not rows:
                continue
            result = report.result(asked, rows, databases.postgres_version)
            print(f"\n{report.table(result)}", flush=True)
            if folder is not None:
                report.write(result, folder)


def _show_kept(options: argparse.Namespace, names: list[str]) -> None:
    kept = report.read(options.results or RESULTS, names)
    if options.page:
        PAGE.write_text(report.filled_in(PAGE.read_text(), kept))
    else:
        for result in kept:
            print(f"### {result['title']}\n\n{report.markdown(result)}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("questions", nargs="*", metavar="question", help=", ".join(QUESTIONS))
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it still run?")
    parser.add_argument("--repeats", type=int, help="samples per side (default: the question's)")
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose label has TEXT")
    parser.add_argument(
        "--results", type=Path, metavar="FOLDER", help="where results go, or are read from"
    )
    parser.add_argument("--markdown", action="store_true", help="print the kept results; run none")
    parser.add_argument("--page", action="store_true", help="put them into docs/performance.md")
    return parser


if __name__ == "__main__":
    main()
