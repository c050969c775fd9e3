"""`manage.py task_worker`: a worker process of the arq backend."""

from __future__ import annotations

import contextlib
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from rail_async_tasks.backends import find_broker, get_backend
from rail_async_tasks.backends.arq import ArqBackend
from rail_async_tasks.conf import TaskSettings, get_settings
from rail_async_tasks.errors import TaskError
from rail_async_tasks.queue_limits import QueueLimits, queue_limits
from rail_async_tasks.registry import registry
from rail_async_tasks.text import counted, noun_for

# The commands that start the workers of other backends.
_COMMANDS: Final = {
    "celery": "celery -A root.celery worker",
    "dramatiq": "manage.py rundramatiq",
    "django_q": "manage.py qcluster",
}


class Command(BaseCommand):
    help = (
        "Runs tasks of the arq backend, until SIGTERM or Ctrl-C: then it takes no more, gives what"
        " runs drain_seconds to end, hands the rest back and ends."
    )

    requires_migrations_checks = True

    def check_migrations(self) -> None:
        # A database that is away is waited for, as it is later.
        with contextlib.suppress(DatabaseError):
            super().check_migrations()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--queue", action="append", metavar="Q",
            help="Serve this queue only. May be given several times. Default: every queue of the"
            " settings and of the tasks; the one with the highest priority comes first.",
        )  # fmt: skip
        parser.add_argument(
            "--concurrency", type=int, metavar="N",
            help="Run at most N tasks at once (default: max_concurrency). Of def tasks no more than"
            " max_workers run at once, and of a queue no more than its own concurrency.",
        )  # fmt: skip
        parser.add_argument("--burst", action="store_true", help="End when nothing waits.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            settings = get_settings()
            self._must_be_ours(settings)
            queues = _queues(settings, options["queue"])
            concurrency = _concurrency(settings, options["concurrency"])
            from rail_async_tasks.workers.arq.serving import serve

            self.stdout.write(
                f"Serving the {noun_for(len(queues), 'queue')}"
                f" {', '.join(queue.name for queue in queues)}:"
                f" {counted(concurrency, 'task')} at once. Ctrl-C ends it."
            )
            self.stdout.flush()
            serve(queues, concurrency=concurrency, burst=options["burst"])
        except TaskError as error:
            raise CommandError(str(error)) from error

    @staticmethod
    def _must_be_ours(settings: TaskSettings) -> None:
        if not settings.enabled:
            raise CommandError('task_settings["enabled"] is False: no tasks run.')
        if not isinstance(get_backend(settings), ArqBackend):
            instead = _COMMANDS.get(settings.backend)
            if instead is not None:
                hint = f'Start its workers with "{instead}".'
            elif find_broker(settings) is not None:
                hint = "Its workers have a command of their own."
            else:
                hint = (
                    "Its tasks run in the web process: start the server alone, or set the backend"
                    ' to "arq".'
                )
            raise CommandError(
                'task_worker serves the backend "arq", and task_settings["backend"] is'
                f' "{settings.backend}". {hint}'
            )


def _queues(settings: TaskSettings, asked: list[str] | None) -> list[QueueLimits]:
    known = {limits.name: limits for limits in queue_limits(settings, registry)}
    known.setdefault(settings.default_queue, QueueLimits(settings.default_queue))
    for name in asked or ():
        if name not in known:
            raise CommandError(
                f"--queue: neither the settings nor a task name a queue {name!r}."
                f" Known are {', '.join(sorted(known))}."
            )
    chosen = [known[name] for name in dict.fromkeys(asked)] if asked else list(known.values())
    return sorted(chosen, key=lambda limits: -limits.priority)


def _concurrency(settings: TaskSettings, asked: int | None) -> int:
    if asked is not None and asked < 1:
        raise CommandError(f"--concurrency is a number from 1, not {asked}.")
    return settings.max_concurrency if asked is None else asked
