"""The program of this process, by its command line: "uvicorn", "celery worker", "manage.py shell".

For operators, beside the process id. No argument is shown but a known command's name: the others
may be secrets.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import Final

# Programs whose subcommand says what they do.
_WITH_SUBCOMMAND: Final = ("manage.py", "django-admin", "celery")
_SUBCOMMAND: Final = re.compile(r"[a-z][a-z0-9_]*")
_LONGEST: Final = 100


def program_of(arguments: Sequence[str]) -> str:
    """Returns the program of a process with this command line (`sys.argv`)."""
    path = PurePath((arguments[0] if arguments else "") or "python")
    # `python -m uvicorn` has the path of its `__main__.py`.
    name = path.parent.name if path.name == "__main__.py" else path.name
    if name in ("-c", "-m"):
        name = "python"
    if name == "django":  # python -m django
        name = "django-admin"
    if name in _WITH_SUBCOMMAND:
        words = (it for it in _without_values(arguments[1:]) if _SUBCOMMAND.fullmatch(it))
        name = " ".join((name, *list(words)[:1]))
    return name.encode("utf-8", "replace").decode()[:_LONGEST]


def _without_values(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments without options and without the word behind a short one: `-A root`."""
    kept, after_option = [], False
    for it in arguments:
        if it.startswith("-"):
            after_option = len(it) == 2 or it in ("--app", "--settings", "--workdir")
        else:
            if not after_option:
                kept.append(it)
            after_option = False
    return kept
