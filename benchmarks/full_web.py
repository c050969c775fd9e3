"""The web application with us."""

from __future__ import annotations

from rail_async_tasks.asgi import get_asgi_application

application = get_asgi_application()
