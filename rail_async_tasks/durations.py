"""Durations as people write them: `90s`, `1h30m`, `2d`."""

from __future__ import annotations

import re
from typing import Final

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION: Final = re.compile(r"(?:\d+(?:\.\d+)?[smhdw])+")
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
# A hundred years: more is a mistake, and no time that a database could subtract.
MOST_SECONDS: Final = 100 * 365 * 86400.0


def parse_duration(text: str) -> float:
    """Returns seconds: `90s`, `1h`, `1h30m`, `2d`, `1w`. Raises ValueError for other texts."""
    if _DURATION.fullmatch(text) is None:
        raise ValueError(f"{text!r} is no duration; write 90s, 30m, 1h, 1h30m, 2d or 1w.")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    if seconds > MOST_SECONDS:
        raise ValueError(f"{text!r} is more than 100 years.")
    return seconds
