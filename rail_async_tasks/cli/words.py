"""Texts for a terminal: control characters made visible, times, ages and durations."""

from __future__ import annotations

import unicodedata
from datetime import datetime, tzinfo
from functools import cache
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from django.utils import timezone

# Control characters, format characters (which reverse the direction of a text), unpaired
# surrogates, and the separators of lines and paragraphs.
_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def one_line(value: object) -> str:
    """Returns a text that moves no cursor and sets no colour: `\\x1b` in place of ESC."""
    return "".join(_visible(char) for char in str(value))


def lines(value: object) -> list[str]:
    """Returns the lines of a text, each made harmless as by `one_line`; tabs are spaces."""
    return [one_line(line) for line in str(value).expandtabs(4).split("\n")]


def _visible(char: str) -> str:
    if char.isascii() and char.isprintable():
        return char
    if unicodedata.category(char) not in _HIDDEN:
        return char
    return char.encode("unicode_escape", "surrogatepass").decode()


def width_of(text: str) -> int:
    """Returns the columns that a text takes: two for wide characters, none for combining ones."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def cut(text: str, width: int) -> str:
    """Returns the text in at most so many columns; a cut one ends in an ellipsis."""
    if width_of(text) <= width:
        return text
    left, kept = width - 1, []
    for char in text:
        left -= _columns(char)
        if left < 0:
            break
        kept.append(char)
    return "".join(kept) + "…"


def duration(seconds: float) -> str:
    """Returns a duration in its largest unit: `45s`, `3m`, `2h`, `4d`; under a second `0.2s`."""
    if 0 < seconds < 1:
        return f"{seconds:.1f}s"
    for unit, size, most in (("s", 1, 60), ("m", 60, 3600), ("h", 3600, 86400)):
        if seconds < most:
            return f"{max(int(seconds // size), 0)}{unit}"
    return f"{int(seconds // 86400)}d"


def moment(at: datetime) -> str:
    """Returns an aware time in the terminal's zone, to the second."""
    return at.astimezone(terminal_zone()).strftime("%Y-%m-%d %H:%M:%S %Z")


def clock_time(at: datetime) -> str:
    """Returns the time of day in the terminal's zone."""
    return at.astimezone(terminal_zone()).strftime("%H:%M:%S")


@cache
def terminal_zone() -> tzinfo:
    """Returns the zone of the terminal: the variable TZ, else the machine's, else the project's.

    Django overwrites TZ with TIME_ZONE when it reads the settings, so that the first value is read
    from the kernel's copy of the environment.
    """
    name = _first_value_of("TZ")
    try:
        if name:
            return ZoneInfo(name.removeprefix(":"))
        with Path("/etc/localtime").open("rb") as file:
            return ZoneInfo.from_file(file)
    except (OSError, ValueError):  # no such zone, or a system that keeps it elsewhere
        return timezone.get_default_timezone()


def _first_value_of(name: str) -> str | None:
    try:
        environment = Path("/proc/self/environ").read_bytes().decode(errors="replace")
    except OSError:
        return None
    pairs = (line.partition("=") for line in environment.split("\0"))
    return next((value for key, _, value in pairs if key == name), None)
