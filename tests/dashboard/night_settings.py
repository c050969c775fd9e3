"""Settings of the server of the night's project, with a page to sign in."""

from __future__ import annotations

from tests.projects.night.settings import *  # noqa: F403

ROOT_URLCONF = "tests.dashboard.site_urls"
