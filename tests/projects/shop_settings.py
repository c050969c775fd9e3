"""Settings of the servers that these tests start: the test project with the shop's types."""

from __future__ import annotations

from tests.projects.shop import SETTINGS as RAIL_DJANGO_GRAPHQL  # noqa: F401
from tests.settings import *  # noqa: F403

MIDDLEWARE = ["django.middleware.gzip.GZipMiddleware", *MIDDLEWARE]  # noqa: F405
