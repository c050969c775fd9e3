"""Rules, one per kind of value: each returns the typed value or reports a problem.

What a rule returns after it has reported a problem is never used.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from rail_async_tasks.conf import problems as ids
from rail_async_tasks.conf.model import BACKENDS, PERIODS, RateLimit
from rail_async_tasks.conf.problems import Place, Report, did_you_mean, shown
from rail_async_tasks.text import counted

Rule = Callable[[Any, Place, Report], Any]

# The largest number of an `integer` column in every database.
MAX_INT: Final = 2**31 - 1
# A century: past it, dates computed from a duration overflow.
MAX_SECONDS: Final = 100 * 365 * 86_400
# The width of the column that holds a queue's name.
MAX_QUEUE_NAME: Final = 100

_RATE = re.compile(r"([0-9]+)/([smhd])", re.ASCII)
_WORD = re.compile(r"[^\s\x00-\x1f\x7f]+")


def flag(value: Any, place: Place, report: Report) -> Any:
    """Accepts a bool, no other truthy or falsy value."""
    if not isinstance(value, bool):
        report.error(
            ids.WRONG_TYPE,
            place,
            f"must be True or False, not {shown(value)}",
            "Write True or False.",
        )
    return value


def whole(low: int = 0, high: int = MAX_INT) -> Rule:
    """Returns a rule for an int from `low` to `high`."""

    def rule(value: Any, place: Place, report: Report) -> Any:
        if isinstance(value, bool) or not isinstance(value, int):
            report.error(
                ids.WRONG_TYPE,
                place,
                f"must be a whole number, not {shown(value)}",
                f"Write an int from {low} to {high}.",
            )
        elif not low <= value <= high:
            report.error(
                ids.OUT_OF_RANGE,
                place,
                f"must be from {low} to {high}, not {shown(value)}",
                f"Write an int from {low} to {high}.",
            )
        return value

    return rule


def number(
    low: float = 0, high: float = MAX_SECONDS, *, above: bool = False, unit: str = "seconds"
) -> Rule:
    """Returns a rule for a float from `low` (`above`: not `low` itself) to `high`."""
    start, end = ("more than", "and at most") if above else ("from", "to")
    allowed = f"{start} {low:g} {end} {high:,.12g}"

    def rule(value: Any, place: Place, report: Report) -> Any:
        if isinstance(value, timedelta):
            report.error(
                ids.WRONG_TYPE,
                place,
                "must be a number, not a timedelta",
                f"Write the {unit} as a number: {value.total_seconds():g}.",
            )
            return value
        if isinstance(value, bool) or not isinstance(value, int | float):
            report.error(
                ids.WRONG_TYPE,
                place,
                f"must be a number, not {shown(value)}",
                f"Write the {unit} as an int or a float.",
            )
            return value
        # Written so that NaN fails it, and without math.isnan, which a huge int overflows.
        if not low <= value <= high or (above and value == low):
            report.error(
                ids.OUT_OF_RANGE,
                place,
                f"must be {allowed}, not {shown(value)}",
                f"Write a finite number of {unit}, {allowed}.",
            )
            return value
        return float(value)

    return rule


def or_none(rule: Rule, meaning: str) -> Rule:
    """Returns a rule that accepts None, too; `meaning` explains None in the hint."""

    def optional(value: Any, place: Place, report: Report) -> Any:
        if value is None:
            return None
        inner = Report()
        given = rule(value, place, inner)
        for problem in inner.problems:
            if problem.key == place.key:  # and not of something inside the value
                problem = replace(problem, hint=f"{problem.hint} None: {meaning}.")
            report.problems.append(problem)
        return given

    return optional


def one_of(*words: str) -> Rule:
    """Returns a rule for one of these words, exactly."""

    def rule(value: Any, place: Place, report: Report) -> Any:
        if value not in words:
            allowed = " or ".join(f'"{word}"' for word in words)
            report.error(
                ids.UNKNOWN_VALUE,
                place,
                f"must be {allowed}, not {shown(value)}",
                did_you_mean(value, words, "It is one of"),
            )
        return value

    return rule


def dotted_path(value: Any, place: Place, report: Report) -> Any:
    """Accepts a dotted path by its syntax; the system checks import it."""
    if not isinstance(value, str):
        report.error(
            ids.WRONG_TYPE,
            place,
            f"must be a dotted path, not {shown(value)}",
            'Write where it is as text, for example "shop.tasks.notify".',
        )
    elif not is_dotted_path(value):
        hint = 'Write the module and the name with dots, for example "shop.tasks.notify".'
        if is_dotted_path(value.replace(":", ".")):
            hint = f'Write "{value.replace(":", ".")}".'
        report.error(ids.MALFORMED, place, f"is not a dotted path: {shown(value)}", hint)
    return value


def is_dotted_path(text: str) -> bool:
    """Returns whether `text` is two or more Python names, joined by dots."""
    parts = text.split(".")
    return len(parts) > 1 and all(p.isidentifier() and not keyword.iskeyword(p) for p in parts)


def backend(value: Any, place: Place, report: Report) -> Any:
    """Accepts a backend's name, or the dotted path of a backend class."""
    if isinstance(value, str) and (value in BACKENDS or is_dotted_path(value)):
        return value
    hint = did_you_mean(value, BACKENDS, "Use the dotted path of a backend class, or one of")
    report.error(ids.UNKNOWN_VALUE, place, f"is not a backend: {shown(value)}", hint)
    return value


def word(limit: int) -> Rule:
    """Returns a rule for 1 to `limit` characters without blanks or control characters."""

    def rule(value: Any, place: Place, report: Report) -> Any:
        if not isinstance(value, str):
            report.error(ids.WRONG_TYPE, place, f"must be text, not {shown(value)}", "Write a str.")
        elif len(value) > limit or not _WORD.fullmatch(value):
            report.error(
                ids.MALFORMED,
                place,
                f"must be one word, not {shown(value)}",
                f"Write one word of at most {counted(limit, 'character')}, without blanks.",
            )
        return value

    return rule


def rate(value: Any, place: Place, report: Report) -> Any:
    """Parses text such as "100/m"."""
    found = _RATE.fullmatch(value) if isinstance(value, str) else None
    if found is None or not 0 < int(found[1][:20]) <= MAX_INT:
        report.error(
            ids.MALFORMED,
            place,
            f"is not a rate: {shown(value)}",
            'Write a count from 1 up, "/" and s, m, h or d; for example "100/m" for 100 a minute.',
        )
        return value
    return RateLimit(count=int(found[1]), period=PERIODS[found[2]])


def redis_url(value: Any, place: Place, report: Report) -> Any:
    """Accepts a Redis URL. No message shows it, as it may hold a password."""
    hint = 'Write "redis://host:6379/0", "rediss://..." for TLS or "unix://path".'
    if not isinstance(value, str):
        report.error(ids.WRONG_TYPE, place, f"must be a URL, not {type(value).__name__}", hint)
    elif not re.match(r"(redis|rediss)://[^/\s]|unix:///?[^\s]", value):
        report.error(ids.MALFORMED, place, "is not the URL of a Redis server", hint)
    elif not re.match(r"unix:|[^:]+://[^/?\s]+(/[0-9]*)?(\?|$)", value):
        # redis-py would take database 0 in its place.
        report.error(ids.MALFORMED, place, "has a database that is no number", hint)
    return value


def dotted_paths(value: Any, place: Place, report: Report) -> Any:
    """Returns the well-formed ones of a list of dotted paths, as a tuple."""
    if not isinstance(value, list | tuple):
        hint = f"Write a list: [{value!r}]." if isinstance(value, str) else "Write a list of text."
        report.error(ids.WRONG_TYPE, place, f"must be a list, not {shown(value)}", hint)
        return ()
    good = []
    for index, path in enumerate(value):
        before = len(report.problems)
        dotted_path(path, place / index, report)
        if len(report.problems) == before:
            good.append(path)
    return tuple(good)


def known_keys(
    raw: Mapping[Any, Any],
    known: Iterable[str],
    place: Place,
    report: Report,
    elsewhere: Mapping[str, str] | None = None,
) -> None:
    """Reports unknown keys of `raw`; `elsewhere` maps known strays to their section."""
    names = list(known)
    for key in raw:
        if key in names:
            continue
        hint = (elsewhere or {}).get(key) or did_you_mean(key, names, "Known are")
        report.error(ids.UNKNOWN_KEY, place / key, "is not a setting", hint)
