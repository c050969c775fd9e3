"""Settings of the server that npm's clients talk to: the shop, with tokens and a small limit."""

from __future__ import annotations

from tests.projects.shop import SETTINGS
from tests.settings import *  # noqa: F403

SECRET = "a secret of the tests, of 32 bytes"
LIMIT = 8
RAIL_DJANGO_GRAPHQL = {
    **SETTINGS,
    "task_settings": {
        "jwt": {"key": SECRET, "algorithms": ["HS256"]},
        "limits": {"subscriptions_per_socket": LIMIT},
        "drain_seconds": 0.2,
    },
}
