"""`manage.py tasks`: the operator's tool. `rail_async_tasks.cli` has its subcommands."""

from __future__ import annotations

import os
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, InterfaceError

from rail_async_tasks.cli import main
from rail_async_tasks.cli.exits import UNAVAILABLE, WRONG, Stop
from rail_async_tasks.cli.terminal import screen_for
from rail_async_tasks.cli.words import one_line
from rail_async_tasks.errors import TaskError


class Command(BaseCommand):
    help = (
        "Lists, shows, watches, cancels and retries tasks, pauses queues, and looks for broken"
        " set-ups. Exit codes: 0 done; 1 a task failed, or something is wrong; 2 usage; 3 the task"
        " was cancelled; 4 the database or the settings keep it from its work."
    )
    # `doctor` reports them, and an operator needs the other subcommands also where one fails.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        main.add_subcommands(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        color = {key: options[key] for key in ("no_color", "force_color")}
        screen = screen_for(self.stdout, **color)
        try:
            code = main.run(options["subcommand"], screen, options)
            screen.flush()
        except Stop as error:
            raise CommandError(str(error), returncode=error.code) from error
        except (TaskError, DatabaseError, InterfaceError) as error:
            raise CommandError(one_line(error), returncode=UNAVAILABLE) from error
        except BrokenPipeError:
            # The reader has seen enough, as `head` does. What Python flushes at its end goes
            # nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = WRONG
        if code:
            raise SystemExit(code)
