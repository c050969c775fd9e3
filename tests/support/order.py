"""The order in which files of tests are run: those that take longest go first.

A file stays in one test process. One that takes two minutes and is taken last would run alone for
two minutes at the end, while the other processes have nothing to do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any, Final

import pytest

TESTS: Final = Path(__file__).parents[1]

# The files that take longest, longest first; `make durations` prints the seconds of each.
LONGEST: Final = (
    "docs/test_pages.py",
    "acceptance/test_parity.py",
    "browser/test_demo_page.py",
    "acceptance/test_servers.py",
    "acceptance/test_bad_input.py",
    "backends/test_suite.py",
    "testing/test_runners.py",
    "unit/test_benchmarks.py",
    "faults/test_claims.py",
    "testing/test_examples.py",
    "acceptance/test_crash.py",
    "integration/test_recovery.py",
    "acceptance/test_scripts.py",
    "docs/test_own_schema.py",
    "docs/test_quick_start.py",
    "browser/test_distributed_demo.py",
    "faults/test_outage.py",
    "integration/test_around_task.py",
    "integration/test_failure_callback_faults.py",
    "integration/test_broker.py",
    "clients/test_task_element.py",
    "clients/test_protocols.py",
    "backends/test_over_graphql.py",
    "backends/test_outage.py",
    "graphql/test_server.py",
    "graphql/test_console.py",
    "observability/test_seam.py",
    "observability/test_switches.py",
    "contract/test_state_machine.py",
)
# Folders whose other files start processes, and wait for them: they follow.
SLOW: Final = (
    "acceptance", "backends", "browser", "clients", "dashboard", "docs", "faults", "testing",
)  # fmt: skip
# How many files the summary names.
NAMED: Final = 40

_PLACES = {TESTS / name: place for place, name in enumerate(LONGEST)}
_SLOW = {TESTS / name for name in SLOW}


def place(file: Path) -> int:
    """Returns a file's place: files of the same place are in any order."""
    rest = len(_PLACES) + (file.parent not in _SLOW)
    return _PLACES.get(file, rest)


def report_seconds(terminal: Any) -> None:
    """Prints the seconds per folder and of the slowest files, set-up and teardown included."""
    reports = [
        report
        for report in chain.from_iterable(terminal.stats.values())
        if isinstance(report, pytest.TestReport)
    ]
    _table(terminal, "folder", reports, lambda file: file.rpartition("/")[0])
    _table(terminal, f"file, of the slowest {NAMED}", reports, lambda file: file, NAMED)


def _table(
    terminal: Any,
    title: str,
    reports: Iterable[pytest.TestReport],
    group: Any,
    count: int | None = None,
) -> None:
    seconds: Counter[str] = Counter()
    tests: Counter[str] = Counter()
    for report in reports:
        name = group(report.nodeid.partition("::")[0])
        seconds[name] += report.duration  # type: ignore[assignment]  # Counter's are integers
        tests[name] += report.when == "call"
    terminal.section(f"seconds per {title}")
    for name, spent in seconds.most_common(count):
        terminal.write_line(f"{spent:8.1f} s  {tests[name]:5} tests  {name}")
    terminal.write_line(f"{seconds.total():8.1f} s  {tests.total():5} tests")
