"""`manage.py set_up_shop`: the shop's folder, its tables and two users."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import BaseCommand, call_command


class Command(BaseCommand):
    help = "Makes the folder, migrates the database and creates the users `demo` and `admin`."
    requires_migrations_checks = False

    def handle(self, *args: Any, **options: Any) -> None:
        settings.DEMO_DIR.mkdir(parents=True, exist_ok=True)
        call_command("migrate", verbosity=0, interactive=False)
        users = get_user_model().objects
        users.get_or_create(username="demo")  # the page logs every visitor in as this one
        if not users.filter(username="admin").exists():
            users.create_superuser("admin", password="admin")
