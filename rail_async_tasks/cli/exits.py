"""Exit codes of `manage.py tasks`, and the error that ends it with one."""

from __future__ import annotations

from typing import Final

OK: Final = 0
# `watch`: the task has failed. `cancel`, `retry`: not done for each task. `doctor`: something is
# wrong.
WRONG: Final = 1
# The arguments are wrong, no task has such an id, or a change by filter lacks --yes.
USAGE: Final = 2
# `watch`: the task was cancelled.
CANCELLED: Final = 3
# The database does not answer, or the settings keep the command from its work.
UNAVAILABLE: Final = 4
# Ctrl-C, as shells report it.
INTERRUPTED: Final = 130


class Stop(Exception):
    """Ends the command with a message on stderr and an exit code."""

    def __init__(self, message: str, code: int = USAGE) -> None:
        super().__init__(message)
        self.code = code
