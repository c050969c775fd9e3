"""`manage.py cleanup_tasks`: deletes finished tasks that are old or have expired."""

from __future__ import annotations

import math
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from rail_async_tasks.errors import TablesMissing, TaskError
from rail_async_tasks.hosting import process as host
from rail_async_tasks.ledger.records import Disposal
from rail_async_tasks.runtime.upkeep import cleanup
from rail_async_tasks.states import FINAL, Status
from rail_async_tasks.text import counted

DAY = 86_400.0
MOST_DAYS = 36_500.0
MOST_ROWS = 100_000


class Command(BaseCommand):
    help = (
        "Deletes finished tasks that ended so many days ago or earlier, and those that have"
        " expired (result_ttl_seconds). An unfinished task is never deleted."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--days", type=float, required=True,
            help="Delete what ended so many days ago or earlier. Fractions count; 0: all finished.",
        )  # fmt: skip
        parser.add_argument(
            "--status", action="append", metavar="S",
            help="Delete only tasks that ended so, expired ones too: completed, failed or"
            " cancelled. May be given several times.",
        )  # fmt: skip
        parser.add_argument("--dry-run", action="store_true", help="Only print how many there are.")
        parser.add_argument(
            "--batch-size", type=int, default=cleanup.BATCH, metavar="N",
            help="Tasks in one transaction (default: %(default)s).",
        )  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        which = Disposal(
            age=_days(options["days"]) * DAY, statuses=_statuses(options["status"] or ())
        )
        size = options["batch_size"]
        if not 1 <= size <= MOST_ROWS:
            raise CommandError(f"--batch-size is a number from 1 to {MOST_ROWS}, not {size}.")
        try:
            ledger = host.ledger()
            ledger.check_tables()
        except TaskError as error:
            raise CommandError(str(error)) from error
        deleted = 0
        try:
            if options["dry_run"]:
                count = ledger.count_disposable(which)
                self.stdout.write(f"{counted(count, 'task')} would be deleted.")
                return
            for count in cleanup.batches(ledger, which, size):
                deleted += count
        except (DatabaseError, TablesMissing) as error:
            raise CommandError(
                f"The database failed; {counted(deleted, 'task')} deleted: {error}"
            ) from error
        self.stdout.write(f"{counted(deleted, 'task')} deleted.")


def _days(days: float) -> float:
    if not (math.isfinite(days) and 0 <= days <= MOST_DAYS):
        raise CommandError(f"--days is a number from 0 to {MOST_DAYS:g}, not {days:g}.")
    return days


def _statuses(asked: Any) -> frozenset[Status]:
    known = ", ".join(sorted(FINAL))
    for status in asked:
        if status not in set(Status):
            raise CommandError(f"--status: there is no status {status!r}. Known are {known}.")
        if status not in FINAL:
            raise CommandError(f"--status: a {status} task is not finished. Use one of {known}.")
    return frozenset(map(Status, asked)) or FINAL
