"""Settings of the servers that the fault tests start.

`FAULTS_DATABASE` is a JSON object that is laid over the `default` entry of DATABASES; its OPTIONS
are added to those that there are.
"""

from __future__ import annotations

import json
import os

from tests.projects.acceptance.settings import *  # noqa: F403
from tests.projects.acceptance.settings import (
    DATABASES,
    INSTALLED_APPS,
    RAIL_DJANGO_GRAPHQL,
)

INSTALLED_APPS = [*INSTALLED_APPS, "tests.faults.bodies"]
ROOT_URLCONF = "tests.faults.urls"

_over = json.loads(os.environ.get("FAULTS_DATABASE", "{}"))

_options = {**DATABASES["default"].get("OPTIONS", {}), **_over.pop("OPTIONS", {})}
DATABASES["default"] |= {**_over, "OPTIONS": _options}

RAIL_DJANGO_GRAPHQL["schema_settings"]["mutation_extensions"] = [
    "tests.faults.bodies.tasks.Mutations"
]
