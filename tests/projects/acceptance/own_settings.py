"""The settings of a project whose ASGI application is its own."""

from __future__ import annotations

from tests.projects.acceptance.settings import *  # noqa: F403

ASGI_APPLICATION = "tests.projects.acceptance.own_application.application"
