"""Settings of the server whose dashboard a browser opens: the shop, with a page to sign in."""

from __future__ import annotations

from tests.projects.shop_settings import *  # noqa: F403

ROOT_URLCONF = "tests.dashboard.site_urls"
STATIC_ROOT = None
