"""Settings of the server that npm's clients and pages talk to.

The shop, with tokens and a small limit; and the app `reports`, which the blocks of
docs/graphql-clients.md make, in the folder that `CLIENTS_SITE` names.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.clients.constants import LIMIT, SECRET
from tests.clients.page_blocks import named
from tests.projects.shop import SETTINGS
from tests.settings import *  # noqa: F403

SITE = Path(os.environ["CLIENTS_SITE"])
sys.path.insert(0, str(SITE))

TOKEN_KEY = SECRET

INSTALLED_APPS = [*INSTALLED_APPS, "reports"]  # noqa: F405
STATICFILES_DIRS = [SITE / "static"]
ROOT_URLCONF = "tests.clients.urls"
exec(compile(named("root/settings.py").text, "root/settings.py", "exec"))  # the page's block
# Another origin of the same server, whatever its port.
CORS_ALLOWED_ORIGIN_REGEXES = [r"http://localhost:\d+"]

RAIL_DJANGO_GRAPHQL = {
    "schema_settings": {
        **SETTINGS["schema_settings"],
        "mutation_extensions": [
            *SETTINGS["schema_settings"]["mutation_extensions"],
            "reports.tasks.TaskMutations",
            "tests.clients.tasks.Mutations",
        ],
    },
    "task_settings": {
        "jwt": {"key": SECRET, "algorithms": ["HS256"]},
        "limits": {"subscriptions_per_socket": LIMIT},
        "introspection": True,  # the audits ask for types
        "drain_seconds": 0.2,
        "lease_seconds": 6,  # a slow machine must not come near it
    },
}
