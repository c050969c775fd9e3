"""ASGI applications that a project may have in place of ours, without a lifespan."""

from __future__ import annotations

import os

from django.core.asgi import get_asgi_application
from django.urls import path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.projects.acceptance.settings")

django = get_asgi_application()

# These need apps that are loaded.
from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402

from rail_async_tasks.graphql.consumers import TaskGraphQLConsumer  # noqa: E402

router = ProtocolTypeRouter(
    {
        "http": django,
        "websocket": AuthMiddlewareStack(
            URLRouter([path("graphql/", TaskGraphQLConsumer.as_asgi())])
        ),
    }
)
