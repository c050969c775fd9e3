"""`manage.py start_naps COUNT`: starts so many tasks and does not wait for them."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from tests.projects.acceptance.tasks import nap


class Command(BaseCommand):
    help = "Start naps."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("count", type=int)

    def handle(self, *args: Any, **options: Any) -> None:
        for _ in range(options["count"]):
            self.stdout.write(str(nap.enqueue(seconds=0.5).id))
