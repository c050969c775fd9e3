"""Settings of the servers that the acceptance tests start.

`ACCEPTANCE_TASK_SETTINGS` is a JSON object of task settings. `ACCEPTANCE_APPS` names apps to
install before the others, separated by commas.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os

from tests.settings import *  # noqa: F403

INSTALLED_APPS = [
    *filter(None, os.environ.get("ACCEPTANCE_APPS", "").split(",")),
    *INSTALLED_APPS,  # noqa: F405
    "tests.projects.acceptance",
]
ROOT_URLCONF = "tests.projects.acceptance.urls"
RAIL_DJANGO_GRAPHQL = {
    "task_settings": json.loads(os.environ.get("ACCEPTANCE_TASK_SETTINGS", "{}")),
    "schema_settings": {
        "mutation_extensions": [
            "tests.projects.acceptance.tasks.Mutations",
            "tests.projects.acceptance.bad_tasks.Mutations",
        ]
    },
}

# A file of the test's own, for servers that begin anew when a file changes.
with contextlib.suppress(ModuleNotFoundError):
    importlib.import_module("acceptance_watched")
