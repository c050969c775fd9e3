"""Where the command writes: lines, tables, JSON. Colours and a live bar need the extra `cli`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import UUID

from rail_async_tasks.cli.tables import Column, render
from rail_async_tasks.cli.words import clock_time, one_line
from rail_async_tasks.snapshot import TaskSnapshot


class Stream(Protocol):
    """The part of Django's OutputWrapper that is used."""

    def write(self, text: str) -> object: ...
    def flush(self) -> object: ...
    def isatty(self) -> bool: ...


class Bar(Protocol):
    """Shows one task as it changes."""

    def show(self, snapshot: TaskSnapshot) -> None: ...
    def close(self) -> None: ...


class Screen:
    """Plain text: off a terminal, with NO_COLOR, and where rich is not installed.

    Attributes:
        width: of the terminal in columns; None off a terminal.
    """

    def __init__(self, stream: Stream, width: int | None = None) -> None:
        self._stream = stream
        self.width = width

    def line(self, text: str = "") -> None:
        """Writes one line, whose text is harmless already."""
        self._stream.write(f"{text}\n")

    def table(self, columns: Sequence[Column], rows: Sequence[Any]) -> None:
        """Writes a table."""
        for line in render(columns, rows, self.width):
            self.line(line)

    def document(self, value: Any) -> None:
        """Writes one JSON document, in ASCII: no character of it acts on a terminal."""
        self.line(json.dumps(value, indent=2, default=_encodable))

    def bar(self) -> Bar:
        """Returns what shows a task's progress."""
        return LineBar(self)

    def flush(self) -> None:
        """Sends what a pipe would hold back."""
        self._stream.flush()


class LineBar:
    """A line for each change of a task."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._shown = ""

    def show(self, snapshot: TaskSnapshot) -> None:
        text = f"{snapshot.status:<9}  {snapshot.progress:>3}%"
        if snapshot.progress_message:
            text += f"  {one_line(snapshot.progress_message)}"
        if text != self._shown:
            self._shown = text
            # Progress does not change the row's time: it is shown as it comes.
            at = snapshot.updated_at if snapshot.is_final else datetime.now(UTC)
            self._screen.line(f"{clock_time(at)}  {text}")
            self._screen.flush()

    def close(self) -> None:
        """Does nothing: each line is complete."""


def _encodable(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
