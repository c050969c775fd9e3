"""Settings of the servers that these tests start: the test project with the shop's types."""

from __future__ import annotations

from tests.projects.shop import SETTINGS
from tests.settings import *  # noqa: F403

RAIL_DJANGO_GRAPHQL = {
    **SETTINGS,
    # The console's page is tested in a browser; it shows the schema.
    "task_settings": {"console": True, "introspection": True},
}

MIDDLEWARE = ["django.middleware.gzip.GZipMiddleware", *MIDDLEWARE]  # noqa: F405
