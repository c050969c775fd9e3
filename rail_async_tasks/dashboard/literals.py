"""Python values as source text that makes them again, with the imports that it needs. Pure."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Final
from uuid import UUID

from strawberry import UNSET, Some


class NotWritable(Exception):
    """A value has no source text: its class is not found by its module and name."""


class Imports:
    """The import lines that written values need."""

    def __init__(self) -> None:
        self._lines: dict[str, None] = {}

    def of(self, cls: type) -> str:
        """Returns the name by which the class is written, and imports it.

        Raises NotWritable for a class that no import finds.
        """
        return self.named(cls.__module__, cls.__qualname__, cls)

    def named(self, module: str, qualname: str, what: object) -> str:
        """As `of`, for anything that a module has under a name."""
        if self.find(module, qualname) is not what:
            raise NotWritable(qualname)
        self._lines[f"from {module} import {qualname.partition('.')[0]}"] = None
        return qualname

    @staticmethod
    def find(module: str, qualname: str) -> Any:
        """Returns what a loaded module has under a name; None if it has none."""
        found: Any = sys.modules.get(module)
        for part in qualname.split("."):
            found = getattr(found, part, None)
        return found

    @property
    def lines(self) -> list[str]:
        return sorted(self._lines)


def literal(value: Any, imports: Imports) -> str:
    """Returns the source text of an argument's value. Raises NotWritable."""
    if value is None or type(value) in {str, int, float, bool}:
        return repr(value)
    if isinstance(value, Enum):
        return f"{imports.of(type(value))}.{value.name}"
    if isinstance(value, Mapping):
        items = (f"{literal(k, imports)}: {literal(v, imports)}" for k, v in value.items())
        return f"{{{', '.join(items)}}}"
    if isinstance(value, list):
        return f"[{', '.join(literal(it, imports) for it in value)}]"
    if isinstance(value, tuple):
        return f"({''.join(f'{literal(it, imports)}, ' for it in value).rstrip(' ')})"
    write = _WRITERS.get(type(value))
    if write is not None:
        return write(value, imports)
    if isinstance(value, Some):
        return f"{imports.of(Some)}({literal(value.value, imports)})"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _structure(value, imports)
    raise NotWritable(type(value).__qualname__)


def _structure(value: Any, imports: Imports) -> str:
    found = {it.name: getattr(value, it.name) for it in dataclasses.fields(value) if it.init}
    given = ", ".join(
        f"{name}={literal(it, imports)}" for name, it in found.items() if it is not UNSET
    )
    return f"{imports.of(type(value))}({given})"


def _by_isoformat(value: Any, imports: Imports) -> str:
    return f"{imports.of(type(value))}.fromisoformat({value.isoformat()!r})"


def _by_text(value: Any, imports: Imports) -> str:
    return f"{imports.of(type(value))}({str(value)!r})"


def _timedelta(value: timedelta, imports: Imports) -> str:
    name = imports.of(timedelta)
    return f"{name}(days={value.days}, seconds={value.seconds}, microseconds={value.microseconds})"


_WRITERS: Final[Mapping[type, Callable[[Any, Imports], str]]] = {
    UUID: _by_text,
    Decimal: _by_text,
    datetime: _by_isoformat,
    date: _by_isoformat,
    time: _by_isoformat,
    timedelta: _timedelta,
}
