"""Tables as plain text: columns that give way where the terminal is narrow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rail_async_tasks.cli.words import cut, one_line, width_of

GAP: Final = "  "
# Columns of characters that a shrunk column keeps.
LEAST: Final = 8


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        value: returns a row's text, of any characters.
        spare: 0 for a column that is always shown; the highest number is left out first where the
            terminal is too narrow.
        shrinks: its texts may be cut.
        right: its texts end at the right-hand edge.
    """

    title: str
    value: Callable[[Any], object]
    spare: int = 0
    shrinks: bool = False
    right: bool = False


def render(columns: Sequence[Column], rows: Sequence[Any], width: int | None) -> list[str]:
    """Returns the lines of a table with its heading.

    Args:
        width: of the terminal; None outside of one: then nothing is cut or left out.
    """
    cells = {
        column: [column.title, *(one_line(column.value(row)) for row in rows)] for column in columns
    }
    widths = {column: max(map(width_of, texts)) for column, texts in cells.items()}
    if width is not None:
        _fit(widths, width)
    shown = list(widths)
    return [
        GAP.join(_cell(cells[column][number], column, widths[column]) for column in shown).rstrip()
        for number in range(len(rows) + 1)
    ]


def _cell(text: str, column: Column, width: int) -> str:
    text = cut(text, width)
    space = " " * (width - width_of(text))
    return space + text if column.right else text + space


def _fit(widths: dict[Column, int], width: int) -> None:
    """Leaves columns out, then shrinks others, until the table is as wide as the terminal."""
    shrinking = [column for column in widths if column.shrinks]
    spare = sorted((it for it in widths if it.spare), key=lambda it: it.spare)
    while spare and _total(widths) - _give(widths, shrinking, 2 * LEAST) > width:
        left_out = spare.pop()
        del widths[left_out]
        shrinking = [column for column in shrinking if column in widths]
    while _total(widths) > width and _give(widths, shrinking, LEAST):
        widest = max(shrinking, key=lambda it: widths[it])
        widths[widest] -= 1


def _total(widths: dict[Column, int]) -> int:
    return sum(widths.values()) + len(GAP) * (len(widths) - 1)


def _give(widths: dict[Column, int], shrinking: Sequence[Column], least: int) -> int:
    """Returns how many characters these columns can be cut by."""
    return sum(max(widths[column] - least, 0) for column in shrinking)
