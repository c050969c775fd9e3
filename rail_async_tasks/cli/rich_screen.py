"""Colours and a live bar, by rich. The only module that imports it."""

from __future__ import annotations

import re
from typing import IO, Any, Final, cast

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from rail_async_tasks.cli.screen import Screen, Stream
from rail_async_tasks.cli.words import one_line
from rail_async_tasks.snapshot import TaskSnapshot

# Words and their styles, where they stand alone.
_STYLES: Final = {
    r"completed|ok|alive": "green",
    r"failed|error|dead": "red",
    r"running": "cyan",
    r"retrying|warning|silent|paused": "yellow",
    r"cancelled|pending": "dim",
}
_COLOURED: Final = [(re.compile(rf"(?<!\S)(?:{words})(?!\S)"), it) for words, it in _STYLES.items()]


class RichScreen(Screen):
    """A terminal with colours."""

    def __init__(self, stream: Stream, width: int) -> None:
        super().__init__(stream, width)
        self._console = Console(
            file=cast("IO[str]", stream), force_terminal=True, width=width, highlight=False
        )

    def line(self, text: str = "") -> None:
        shown = Text(text)
        for pattern, style in _COLOURED:
            shown.highlight_regex(pattern, style)
        self._console.print(shown, soft_wrap=True)

    def document(self, value: Any) -> None:
        Screen(self._stream).document(value)

    def bar(self) -> RichBar:
        return RichBar(self._console)


class RichBar:
    """A bar that is drawn again at each change."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.fields[status]:<9}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f}%", markup=False),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
            console=console,
            refresh_per_second=4,
        )
        self._task = self._progress.add_task("", total=100, status="")
        self._progress.start()

    def show(self, snapshot: TaskSnapshot) -> None:
        self._progress.update(
            self._task,
            completed=snapshot.progress,
            description=one_line(snapshot.progress_message or ""),
            status=str(snapshot.status),
        )
        self._progress.refresh()

    def close(self) -> None:
        self._progress.stop()
