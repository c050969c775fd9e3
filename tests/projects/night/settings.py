"""Settings of the servers and commands of this project."""

from __future__ import annotations

import json
import os

from tests.settings import *  # noqa: F403

RAIL_DJANGO_GRAPHQL = {
    "task_settings": {
        "queues": {"payments": {"priority": 5, "concurrency": 10}},
        "audit_enabled": True,
        "log_failures": False,
        # As servers of tests get it, see `tests.support.server`.
        **json.loads(os.environ.get("ACCEPTANCE_TASK_SETTINGS", "{}")),
    },
    "schema_settings": {"mutation_extensions": ["tests.projects.night.tasks.TaskMutations"]},
}
