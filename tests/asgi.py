"""The ASGI application of the test project, for tests that start a real server."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

from rail_async_tasks.asgi import get_asgi_application

application = get_asgi_application()
