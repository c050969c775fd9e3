"""The ASGI application: pages, GraphQL over HTTP and WebSocket, and the task runtime."""

from __future__ import annotations

import os

from rail_async_tasks.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example_project.root.settings")

application = get_asgi_application()
