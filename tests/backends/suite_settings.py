"""Settings of the public suite and of the workers that it starts."""

from __future__ import annotations

from tests.backends.settings import *  # noqa: F403
from tests.backends.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "rail_async_tasks.testing.backends"]
