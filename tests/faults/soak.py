"""Loads a server of its own for a while: `python -m tests.faults.soak --minutes 10 --rate 50`.

Prints what the server used: at rest before the load and after each third of it, and while it was
loaded. The exit code is 1 where that was not flat, or where a task did not end as it must.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import django
from django.core.management import call_command

from devservers.postgres import running_postgres

SAMPLE_EVERY = 10.0  # seconds; a short soak has at least this many samples in all:
SAMPLES = 12


@dataclass
class Database:
    """Where it is, and what makes `tests.settings` use it."""

    kind: str
    url: str

    @property
    def env(self) -> dict[str, str]:
        return {"TEST_DATABASE": self.kind, "TEST_DATABASE_URL": self.url}


@contextmanager
def running(kind: str, folder: str) -> Iterator[Database]:
    """An empty database, which ends with this."""
    if kind == "sqlite":
        yield Database(kind, f"sqlite:///{folder}/db.sqlite3")
        return
    with running_postgres() as server:
        yield Database(kind, server.create_database("soak"))


def sample_every(seconds: float) -> float:
    return min(SAMPLE_EVERY, seconds / SAMPLES)


def _load(database: Database, folder: str, seconds: float, rate: float) -> int:
    os.environ |= {"DJANGO_SETTINGS_MODULE": "tests.settings", **database.env}
    django.setup()
    call_command("migrate", verbosity=0, interactive=False)
    # They know the models, which are there from here on.
    from tests.faults.conftest import prepared
    from tests.faults.fleet import Fleet
    from tests.faults.load import Outcome, soak

    cookie = prepared()

    async def run() -> Outcome:
        async with AsyncExitStack() as stack:
            fleet = Fleet(database.env, cookie, stack, str(Path(folder, "notes")))
            every = sample_every(seconds)
            return await soak(fleet, database, seconds=seconds, rate=rate, every=every)

    outcome = asyncio.run(run())
    sys.stdout.write(f"{outcome.table()}\n{'not flat' if outcome.problems else 'flat'}\n")
    return 1 if outcome.problems else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=50.0, help="tasks a second")
    parser.add_argument("--database", choices=("postgres", "sqlite"), default="postgres")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="rail-async-tasks-soak-") as folder,
        running(options.database, folder) as database,
    ):
        return _load(database, folder, options.minutes * 60, options.rate)


if __name__ == "__main__":
    sys.exit(main())
