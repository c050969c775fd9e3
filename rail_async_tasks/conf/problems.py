"""Problems of the settings, and the report that collects them."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

Level = Literal["error", "warning"]

NOT_A_DICT: Final = "rail_async_tasks.E001"
UNKNOWN_KEY: Final = "rail_async_tasks.E002"
WRONG_TYPE: Final = "rail_async_tasks.E003"
OUT_OF_RANGE: Final = "rail_async_tasks.E004"
UNKNOWN_VALUE: Final = "rail_async_tasks.E005"
MALFORMED: Final = "rail_async_tasks.E006"
UNKNOWN_DEFAULT_QUEUE: Final = "rail_async_tasks.E007"
NEEDS_ANOTHER: Final = "rail_async_tasks.E008"
CONTRADICTION: Final = "rail_async_tasks.E009"
BAD_JWT: Final = "rail_async_tasks.E010"
BAD_ENCRYPTION_KEY: Final = "rail_async_tasks.E011"
MISPLACED: Final = "rail_async_tasks.E022"
MISSPELT: Final = "rail_async_tasks.W001"
WITHOUT_EFFECT: Final = "rail_async_tasks.W002"

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 80


@dataclass(frozen=True, slots=True)
class SettingProblem:
    """One mistake. `key` is dotted within its section, e.g. `queues.high.priority`; the message
    names the setting in full and never shows a secret; the hint says what to do."""

    id: str
    key: str
    message: str
    hint: str
    level: Level = "error"


@dataclass(frozen=True, slots=True)
class Place:
    """A key's place in the settings."""

    section: str
    parts: tuple[object, ...] = ()

    def __truediv__(self, part: object) -> Place:
        return Place(self.section, (*self.parts, part))

    @property
    def key(self) -> str:
        return ".".join(map(_text, self.parts)) or self.section

    def __str__(self) -> str:
        steps = (
            f'["{part}"]' if isinstance(part, str) else f"[{shown(part)}]" for part in self.parts
        )
        return self.section + "".join(steps)


class Report:
    """Collects problems, so that one run of the checks shows them all."""

    def __init__(self) -> None:
        self.problems: list[SettingProblem] = []

    def error(self, id: str, place: Place, says: str, hint: str) -> None:
        """Adds an error; `says` continues the sentence that the place begins."""
        self.problems.append(SettingProblem(id, place.key, f"{place} {says}.", hint))

    def warning(self, id: str, place: Place, says: str, hint: str) -> None:
        """Adds a warning; see `error`."""
        self.problems.append(SettingProblem(id, place.key, f"{place} {says}.", hint, "warning"))


def shown(value: object) -> str:
    """Returns a value for a message: its `repr`, cut to a bounded length."""
    try:
        return _repr.repr(value)
    except ValueError:  # an int with more digits than Python writes
        return f"<{type(value).__name__}>"


def _text(part: object) -> str:
    return part if isinstance(part, str) else shown(part)


def nearest(word: object, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Returns the known word that was probably meant; ignores case, and `-` for `_`."""
    by_spelling = {name.lower(): name for name in known}
    spelt = _text(word).lower().replace("-", "_")
    found = difflib.get_close_matches(spelt, by_spelling, n=1, cutoff=cutoff)
    return by_spelling[found[0]] if found else None


def did_you_mean(word: object, known: Iterable[str], what: str) -> str:
    """Returns the hint for an unknown word: the nearest known one, or all of them."""
    names = list(known)
    meant = nearest(word, names)
    if meant is not None:
        return f'Did you mean "{meant}"?'
    return f"{what}: {', '.join(sorted(names))}."
