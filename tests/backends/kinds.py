"""The backends of the tests: the settings and apps that each needs, and its workers' command."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any, Final


@dataclass(frozen=True)
class Kind:
    """One backend.

    Attributes:
        worker: the arguments of Python that start a worker; none if the web process runs the tasks.
        apps: additional INSTALLED_APPS.
    """

    name: str
    worker: tuple[str, ...] = ()
    apps: tuple[str, ...] = ()
    task_settings: dict[str, Any] = field(default_factory=dict)

    @property
    def argv(self) -> list[str]:
        return [sys.executable, *self.worker]


DJANGO: Final = ("-m", "django")

KINDS: Final = {
    kind.name: kind
    for kind in (
        Kind("asyncio"),
        Kind("thread"),
        Kind("arq", (*DJANGO, "task_worker")),
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
