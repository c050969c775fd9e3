"""The backends: what a project that uses each of them sets, and the command of its workers."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any, Final


@dataclass(frozen=True)
class Kind:
    """One of them. `worker` is Python's arguments; none where the web process runs the tasks."""

    name: str
    worker: tuple[str, ...] = ()
    apps: tuple[str, ...] = ()
    task_settings: dict[str, Any] = field(default_factory=dict)
    priority: bool = False
    exit_codes: tuple[int, ...] = (0,)

    @property
    def argv(self) -> list[str]:
        return [sys.executable, *self.worker]


DJANGO: Final = ("-m", "django")

KINDS: Final = {
    kind.name: kind
    for kind in (
        Kind("asyncio", priority=True),
        Kind("thread", priority=True),
        Kind("arq", (*DJANGO, "task_worker"), priority=True),
        Kind(
            "celery",
            ("-m", "celery", "-A", "tests.backends.celery_app", "worker", "--concurrency=8",
             "--pool=threads", "--loglevel=WARNING"),
            task_settings={"celery_app": "tests.backends.celery_app.app"},
        ),
        Kind(
            "dramatiq",
            (*DJANGO, "rundramatiq", "--processes=1", "--threads=8"),
            apps=("django_dramatiq",),
        ),
        Kind("django_q", (*DJANGO, "qcluster"), apps=("django_q",)),
    )
}  # fmt: skip
