"""Options of Django tasks beside Django's: in the TASKS setting, and of `@task(timeout=60)`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from rail_async_tasks.contrib.django_tasks import library
from rail_async_tasks.declaration.options import read_options
from rail_async_tasks.errors import TaskDeclarationError

# Django knows no retries: code that was written for it may not bear a second run.
DEFAULTS: Final = {"max_retries": 0}

KEYS: Final = (
    "max_retries", "retry_delay", "retry_backoff", "timeout", "rerun_on_crash", "track_progress",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Task(library.Task):
    """Django's `Task`, with options of ours: `@task(max_retries=3, timeout=60)`.

    Django 6.1 and the package django-tasks pass them on. `None`: the backend's OPTIONS hold, then
    the settings. Times are in seconds.
    """

    max_retries: int | None = None
    retry_delay: float | None = None
    retry_backoff: bool | None = None
    timeout: float | None = None
    rerun_on_crash: bool | None = None
    track_progress: bool | None = None


def option_problem(given: object) -> str | None:
    """Returns what is wrong with the OPTIONS of a backend; None if they are right."""
    if not isinstance(given, Mapping):
        return "must be a dict."
    for name in given:
        if name not in KEYS:
            return f"has no option {name!r}; there are {', '.join(KEYS)}."
    try:
        read_options(given)
    except TaskDeclarationError as error:
        return str(error)
    return None


def options_of(task: library.Task, given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options for the definition of a task; its own go before those of its backend.

    Wrong OPTIONS of the backend count as not given: checks report them, and a start is refused.
    """
    own = {name: getattr(task, name, None) for name in KEYS}
    known = given if option_problem(given) is None else {}
    chosen = {name: value for name, value in own.items() if value is not None}
    return {**DEFAULTS, **known, **chosen}
