"""The web application without us: a schema behind the stock view."""

from __future__ import annotations

import strawberry
from django.core.asgi import get_asgi_application
from django.urls import path
from strawberry.django.views import AsyncGraphQLView


@strawberry.type
class Query:
    answer: int = 42


urlpatterns = [path("graphql/", AsyncGraphQLView.as_view(schema=strawberry.Schema(Query)))]
application = get_asgi_application()
