"""What a server serves here: Django's application, alone and with the task runtime around it."""

from __future__ import annotations

from django.core.asgi import get_asgi_application

from rail_async_tasks.asgi import with_tasks

plain = get_asgi_application()
application = with_tasks(plain)
