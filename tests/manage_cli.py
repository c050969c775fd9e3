"""`manage.py tasks` with the settings of the suite, as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import sys

import django
from django.core.management import execute_from_command_line

if __name__ == "__main__":
    # A test run in the background ignores Ctrl-C, and so do its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    from django.conf import settings

    if given := os.environ.get("CLI_TASK_SETTINGS"):
        settings.RAIL_DJANGO_GRAPHQL = {"task_settings": json.loads(given)}
    django.setup()
    execute_from_command_line([sys.argv[0], "tasks", *sys.argv[1:]])
