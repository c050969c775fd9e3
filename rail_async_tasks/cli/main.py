"""The subcommands of `manage.py tasks`, their arguments, and what ends each of them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from rail_async_tasks.cli import change, errors, pauses, processes, queues, show, watch
from rail_async_tasks.cli import list as tasks_list
from rail_async_tasks.cli.doctor import report
from rail_async_tasks.cli.exits import USAGE, Stop
from rail_async_tasks.cli.screen import Screen

Run = Callable[[Screen, Mapping[str, Any]], int]


def _nothing(parser: argparse.ArgumentParser) -> None:
    """Adds no argument."""


class Subcommand(NamedTuple):
    """A subcommand. `json`: it takes `--json`."""

    help: str
    run: Run
    add_arguments: Callable[[argparse.ArgumentParser], None] = _nothing
    json: bool = True


SUBCOMMANDS: Final = {
    "list": Subcommand("List tasks, newest first.", tasks_list.run, tasks_list.add_arguments),
    "show": Subcommand("Show all that is known of a task.", show.run, show.add_arguments),
    "watch": Subcommand(
        "Follow a task until it ends. Exit code 0: completed, 1: failed, 3: cancelled.",
        watch.run, watch.add_arguments, json=False,
    ),
    "cancel": Subcommand("Cancel tasks.", change.run_cancel, change.add_arguments),
    "retry": Subcommand("Run finished tasks again.", change.run_retry, change.add_arguments),
    "pause": Subcommand(
        "Start no more tasks of a queue.", pauses.run_pause, pauses.add_arguments, json=False
    ),
    "resume": Subcommand(
        "Start a paused queue's tasks again.", pauses.run_resume, pauses.add_arguments, json=False
    ),
    "queues": Subcommand("List the queues, and what waits in them.", queues.run),
    "errors": Subcommand("List errors by class and place.", errors.run),
    "processes": Subcommand("List the processes, and which of them run tasks.", processes.run),
    "doctor": Subcommand(
        "Look for broken set-ups, and name the remedies. Exit code 1: something is wrong.",
        report.run, report.add_arguments,
    ),
}  # fmt: skip


def _add_options_of_django(parser: argparse.ArgumentParser) -> None:
    """Adds the options that Django has before the subcommand, for those who write them after it.

    Without a default, which would undo what stands before it.
    """
    hidden: Any = {"default": argparse.SUPPRESS, "help": argparse.SUPPRESS}
    for flag in ("--no-color", "--force-color", "--traceback"):
        parser.add_argument(flag, action="store_true", **hidden)
    for option in ("--settings", "--pythonpath"):  # `manage.py` has read them, wherever they stand
        parser.add_argument(option, **hidden)
    parser.add_argument("-v", "--verbosity", type=int, choices=range(4), **hidden)


def add_subcommands(parser: argparse.ArgumentParser) -> None:
    """Adds every subcommand to the command's parser."""
    # Not `required`: argparse would ask for one and not say which there are.
    subparsers = parser.add_subparsers(dest="subcommand", metavar="SUBCOMMAND")
    for name, subcommand in SUBCOMMANDS.items():
        added = subparsers.add_parser(name, help=subcommand.help, description=subcommand.help)
        subcommand.add_arguments(added)
        if subcommand.json:
            added.add_argument("--json", action="store_true", help="Write one JSON document.")
        _add_options_of_django(added)


def run(name: str | None, screen: Screen, options: Mapping[str, Any]) -> int:
    """Runs a subcommand. Returns the exit code. Raises `Stop`, `TaskError`, `DatabaseError`."""
    if name is None:
        width = max(map(len, SUBCOMMANDS))
        choices = "".join(f"\n  {it:<{width}}  {SUBCOMMANDS[it].help}" for it in SUBCOMMANDS)
        message = f"Name a subcommand, as in `manage.py tasks list`:{choices}"
        raise Stop(message, USAGE)
    return SUBCOMMANDS[name].run(screen, options)
