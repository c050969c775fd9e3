"""Settings of the servers that the acceptance tests start.

`ACCEPTANCE_TASK_SETTINGS` is a JSON object of task settings.
"""

from __future__ import annotations

import json
import os

from tests.settings import *  # noqa: F403

INSTALLED_APPS = [*INSTALLED_APPS, "tests.acceptance.app"]  # noqa: F405
RAIL_DJANGO_GRAPHQL = {
    "task_settings": json.loads(os.environ.get("ACCEPTANCE_TASK_SETTINGS", "{}")),
    "schema_settings": {"mutation_extensions": ["tests.acceptance.app.tasks.Mutations"]},
}
