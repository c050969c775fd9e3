"""Durations in words."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Returns a duration in its largest unit, or two: `12 ms`, `3.2 s`, `5 m 12 s`, `2 d 4 h`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    for large, small, unit, sub in (
        (60, 1, "m", "s"),
        (3600, 60, "h", "m"),
        (86400, 3600, "d", "h"),
    ):
        if whole < large * (60 if unit == "m" else 24) or unit == "d":
            rest = whole % large // small
            return f"{whole // large} {unit} {rest} {sub}" if rest else f"{whole // large} {unit}"
    raise AssertionError
