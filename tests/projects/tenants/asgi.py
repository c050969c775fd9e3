"""The ASGI application of the project with tenants."""

from __future__ import annotations

from rail_async_tasks.asgi import get_asgi_application

application = get_asgi_application()
