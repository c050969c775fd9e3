"""Texts of the command line: control characters, widths, durations, tables."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest

from rail_async_tasks.cli.rich_screen import RichScreen
from rail_async_tasks.cli.screen import Screen
from rail_async_tasks.cli.tables import Column, render
from rail_async_tasks.cli.terminal import screen_for
from rail_async_tasks.cli.words import cut, duration, lines, one_line, width_of
from rail_async_tasks.durations import parse_duration


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\r\nb\tc\x07", r"a\r\nb\tc\x07"),
        ("\x9b2J", r"\x9b2J"),
        ("abc\u202edef", r"abc\u202edef"),
        ("\u2028", r"\u2028"),
        ("\ud800", r"\ud800"),
        ("Größe 東京 🚀", "Größe 東京 🚀"),
    ],
)
def test_control_characters_are_shown_not_obeyed(text: str, shown: str) -> None:
    """Also the C1 ones, and those that reverse the direction of a text."""
    assert one_line(text) == shown


def test_a_text_of_several_lines_keeps_them() -> None:
    """Each of them is harmless."""
    assert lines("a\n\tb\x1b]0;x\x07") == ["a", "    b" + r"\x1b]0;x\x07"]


def test_widths_count_columns() -> None:
    """Wide characters take two, combining ones none."""
    assert [width_of(it) for it in ("abc", "東京", "e\u0301")] == [3, 4, 1]
    assert cut("東京都", 5) == "東京…"
    assert cut("abc", 3) == "abc"
    assert cut("abcd", 3) == "ab…"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.24, "0.2s"), (59.9, "59s"), (60, "1m"), (7199, "1h"), (86400 * 3, "3d"),
     (-5, "0s")],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    """In the largest unit, rounded down."""
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("1h", 3600), ("1h30m", 5400), ("0.5d", 43200), ("1w", 604800)],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    """With their units."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "1", "h", "-1h", "1y", "1 h", "9999999w", "1h;", "nan"])
def test_other_durations_are_refused(text: str) -> None:
    """A number without a unit, too."""
    with pytest.raises(ValueError, match=r"duration|years"):
        parse_duration(text)


COLUMNS = (
    Column("ID", lambda it: "i" * 36),
    Column("NAME", lambda it: it, shrinks=True),
    Column("QUEUE", lambda it: "q" * 20, spare=1, shrinks=True),
    Column("N", lambda it: 7, right=True),
)


@pytest.mark.parametrize("width", [50, 60, 80, 100])
def test_a_table_fits_its_terminal(width: int) -> None:
    """The spare column goes first, then texts are cut; the id never is."""
    table = render(COLUMNS, ["n" * 70, "short"], width)
    assert max(map(width_of, table)) <= width
    assert all("i" * 36 in line for line in table[1:])
    assert ("QUEUE" in table[0]) == (width >= 80)


def test_a_table_in_a_pipe_is_whole() -> None:
    """Nothing is cut or left out, and no line ends in blanks."""
    table = render(COLUMNS, ["n" * 200], None)
    assert "n" * 200 in table[1]
    assert "QUEUE" in table[0]
    assert [line for line in table if line != line.rstrip()] == []


def test_a_cell_cannot_break_its_line() -> None:
    """A name with a line feed and an escape sequence stays one cell."""
    table = render(COLUMNS, ["a\nb\x1b[2J"], None)
    assert len(table) == 2
    assert r"a\nb\x1b[2J" in table[1]


def test_colours_are_for_terminals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not off a terminal, with NO_COLOR, with --no-color, or on a dumb one."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert type(screen_for(io.StringIO(), no_color=False)) is Screen
    assert type(screen_for(Terminal(), no_color=False)) is RichScreen
    assert type(screen_for(Terminal(), no_color=True)) is Screen
    monkeypatch.setenv("TERM", "dumb")
    assert type(screen_for(Terminal(), no_color=False)) is Screen
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert type(screen_for(Terminal(), no_color=False)) is Screen


def test_without_rich_there_is_plain_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra `cli` is not needed."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setitem(sys.modules, "rail_async_tasks.cli.rich_screen", None)
    screen = screen_for(Terminal(), no_color=False)
    assert type(screen) is Screen
    assert screen.width is not None


def test_rich_takes_no_markup_from_texts() -> None:
    """A name like `[red]` is shown as it is, and a status has its colour."""
    terminal = Terminal()
    RichScreen(terminal, 80).line("[red]x[/red]  failed  unfailed")
    assert "[red]x[/red]" in terminal.getvalue()
    assert terminal.getvalue().count("\x1b[31m") == 1


def test_times_are_in_the_terminals_zone() -> None:
    """Not in TIME_ZONE, which Django writes into the variable TZ."""
    program = (
        "from django.conf import settings; settings.configure(TIME_ZONE='Asia/Tokyo')\n"
        "from datetime import UTC, datetime\n"
        "from rail_async_tasks.cli.words import moment\n"
        "settings.TIME_ZONE; print(moment(datetime(2026, 7, 1, 12, tzinfo=UTC)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "TZ": "Europe/Berlin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "2026-07-01 14:00:00 CEST"
