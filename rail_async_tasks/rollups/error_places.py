"""The place of an error: the project's own line that a traceback leads through. Pure.

With the exception's class it tells one error from another. It is short, the same on every machine,
and read from the text of the traceback, as it is stored with the task.
"""

from __future__ import annotations

import re
import sys
import sysconfig
from functools import lru_cache
from pathlib import Path
from typing import Final

from rail_async_tasks.text import clean

MAX_PLACE_BYTES: Final = 255
# In a filter: of errors without a place. Each real place has a colon.
NO_PLACE: Final = "none"

# A frame's line; those of an exception group begin with a bar.
_FRAME: Final = re.compile(r'^[ |+]*File "(.+)", line (\d+), in (.+)$', re.MULTILINE)
_OURS: Final = str(Path(__file__).resolve().parents[1])
_FOREIGN: Final = ("/site-packages/", "/dist-packages/")
_STDLIB: Final = sysconfig.get_paths()["stdlib"]


@lru_cache(maxsize=128)
def place_of(traceback: str | None) -> str | None:
    """Returns "shop/tasks.py:42 in import_rows": the innermost frame of the project's own code.

    Without such a frame it is the innermost frame of all but this package. None without a
    traceback, or where it has no such frame either.
    """
    frames = [] if traceback is None else _FRAME.findall(traceback)
    frames = [it for it in frames if not _is_within(it[0], _OURS)]
    if not frames:
        return None
    own = [it for it in frames if _is_own(it[0])]
    path, line, function = (own or frames)[-1]
    # Without a quote, so that a filter can quote it.
    return clean(f"{_relative(path)}:{line} in {function}".replace('"', "'"), MAX_PLACE_BYTES)


def _is_own(path: str) -> bool:
    """Returns whether a file is no library's: neither installed, nor Python's, nor generated."""
    slashed = path.replace("\\", "/")
    if slashed.startswith("<") or any(it in slashed for it in _FOREIGN):
        return False
    return not _is_within(path, _STDLIB)


def _is_within(path: str, folder: str) -> bool:
    return path.startswith((f"{folder}/", f"{folder}\\"))


def _relative(path: str) -> str:
    """Returns the path within the folder that it was imported from: the same on every machine."""
    # An empty entry is the working directory: `uvicorn root.asgi:application` has no other one.
    entries = [str(Path(it or ".").absolute()) for it in sys.path]
    root = max((it for it in entries if _is_within(path, it)), key=len, default="")
    return path[len(root) :].lstrip("/\\").replace("\\", "/") if root else path
