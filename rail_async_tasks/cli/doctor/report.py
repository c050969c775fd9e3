"""Runs the doctor's examinations in order, and writes what they find."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Final

from django.db import DatabaseError

from rail_async_tasks.checks.databases import ledger_alias
from rail_async_tasks.cli.doctor import connections, database, project
from rail_async_tasks.cli.doctor.setups import AREAS, Finding, found
from rail_async_tasks.cli.doctor.workers import workers
from rail_async_tasks.cli.exits import OK, WRONG
from rail_async_tasks.cli.screen import Screen
from rail_async_tasks.cli.words import one_line
from rail_async_tasks.conf import TaskSettings, get_settings
from rail_async_tasks.errors import ConfigurationError
from rail_async_tasks.text import counted, describe, sentence

# Where one of these was found, the areas could not be looked at.
_HIDES: Final = {
    "database-unreachable": ("migrations", "workers", "clocks"),
    "tables-missing": ("workers", "clocks"),
    "settings-unusable": ("bus", "broker", "workers"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    parser.add_argument(
        "--url", metavar="URL",
        help="Also ask a running server, for example http://127.0.0.1:8000.",
    )  # fmt: skip


def run(screen: Screen, options: Mapping[str, Any]) -> int:
    """Examines the project. Returns the exit code: 1 where there is an error."""
    findings = list(examine(options["url"]))
    wrong = any(finding.level == "error" for finding in findings)
    if options["json"]:
        screen.document(
            {
                "ok": not wrong,
                "areas": {area: _state(area, findings) for area in AREAS},
                "findings": [finding.document() for finding in findings],
            }
        )
    else:
        for line in _text(findings):
            screen.line(line)
    return WRONG if wrong else OK


def examine(url: str | None = None) -> Iterator[Finding]:
    """Yields what is wrong with the project. One broken part hides no other.

    Args:
        url: of a running server, to be asked too.
    """
    yield from project.settings()
    settings = _settings()
    tracked = settings is None or settings.track_in_database
    usable = True
    for finding in database.answer(ledger_alias()) if tracked else ():
        usable = False
        yield finding
    yield from project.system_checks(database=usable and tracked)
    if usable and tracked:
        yield from _rows(ledger_alias(), settings)
    if settings is not None:
        yield from connections.bus(settings)
        yield from connections.broker(settings)
    yield from project.asgi_packages()
    if url is not None:
        yield from project.server(url)


def _rows(alias: str, settings: TaskSettings | None) -> Iterator[Finding]:
    """Yields what is found in the tables, as far as they are there."""
    lacks = list(_within(alias, partial(database.tables, alias)))
    yield from lacks
    if any(finding.name in ("tables-missing", "database-unreachable") for finding in lacks):
        return
    for examination in (database.writable, database.left_over, database.clocks):
        yield from _within(alias, partial(examination, alias))
    if settings is not None:
        yield from _within(alias, partial(workers, alias, settings))


def _within(alias: str, examination: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """Yields the findings of an examination; a database that fails meanwhile is one, too."""
    try:
        yield from examination()
    except DatabaseError as error:
        yield found("database-unreachable", f'Database "{alias}": {sentence(describe(error))}')


def _settings() -> TaskSettings | None:
    try:
        return get_settings()
    except ConfigurationError:  # a finding of its own
        return None


def _state(area: str, findings: Iterable[Finding]) -> str:
    levels = {finding.level for finding in findings if finding.area == area}
    if levels:
        return "error" if "error" in levels else "warning"
    names = {finding.name for finding in findings}
    return "not checked" if any(area in _HIDES.get(it, ()) for it in names) else "ok"


def _text(findings: list[Finding]) -> Iterator[str]:
    for area in AREAS:
        yield f"{area:<10}  {_state(area, findings)}"
        for finding in findings:
            if finding.area == area:
                yield f"  {finding.level} {finding.name}: {one_line(finding.message)}"
                yield f"    Remedy: {one_line(finding.remedy)}"
    errors = sum(finding.level == "error" for finding in findings)
    warnings = len(findings) - errors
    yield ""
    if findings:
        yield f"{counted(errors, 'error')}, {counted(warnings, 'warning')}."
    else:
        yield "Nothing is wrong."
