"""Chooses the screen: colours and a bar on a terminal, where rich is installed."""

from __future__ import annotations

import os
import shutil

from rail_async_tasks.cli.screen import Screen, Stream


def screen_for(stream: Stream, *, no_color: bool, force_color: bool = False) -> Screen:
    """Returns the screen for a stream: with colours on a terminal that may have them.

    With `force_color` on any stream, as Django's own commands have it.
    """
    if not stream.isatty() and not force_color:
        return Screen(stream)
    width = shutil.get_terminal_size().columns
    refused = no_color or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    if refused and not force_color:
        return Screen(stream, width)
    try:
        from rail_async_tasks.cli.rich_screen import RichScreen
    except ImportError:  # the extra `cli` is not installed
        return Screen(stream, width)
    return RichScreen(stream, width)
