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
    "acceptance/test_servers.py",
    "acceptance/test_parity.py",
    "backends/test_suite.py",
    "docs/test_quick_start.py",
    "dashboard/test_task_in_browser.py",
    "faults/test_outage.py",
    "browser/test_demo_page.py",
    "acceptance/test_bad_input.py",
    "docs/test_own_schema.py",
    "browser/test_distributed_demo.py",
    "acceptance/test_signals.py",
    "acceptance/test_crash.py",
    "dashboard/test_browser.py",
    "integration/test_recovery.py",
    "rest/test_revocations.py",
    "acceptance/test_own_application.py",
    "acceptance/test_browser_clients.py",
    "clients/test_graphql_clients_page.py",
    "faults/test_redis.py",
    "acceptance/test_permissions.py",
    "dashboard/test_one_night_in_browser.py",
    "faults/test_soak.py",
    "clients/test_task_element.py",
    "testing/test_runners.py",
    "contract/test_state_machine.py",
    "integration/test_broker.py",
    "acceptance/test_failure_callback.py",
    "backends/test_outage.py",
    "testing/test_examples.py",
    "unit/test_benchmarks.py",
    "docs/test_telemetry.py",
    "rest/test_server.py",
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
