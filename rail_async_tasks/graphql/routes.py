"""Finds the view that serves GraphQL at a path, for a WebSocket at the same path."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import strawberry
from django.urls import Resolver404, resolve
from django.utils import translation

from rail_async_tasks.graphql.schema import get_schema
from rail_async_tasks.graphql.views import TaskGraphQLView


def view_at(path_info: str) -> Any | None:
    """Returns the `TaskGraphQLView` at a path, which has no script prefix; None where none is."""
    # Below `i18n_patterns` the language is part of the path; over HTTP LocaleMiddleware reads it.
    language = translation.get_language_from_path(path_info)
    try:
        with translation.override(language) if language else nullcontext():
            view = resolve(path_info).func
    except Resolver404:
        return None
    kind = getattr(view, "view_class", None)
    return view if isinstance(kind, type) and issubclass(kind, TaskGraphQLView) else None


def schema_at(path_info: str) -> strawberry.Schema:
    """Returns the schema of the view at a path; that of the settings where the view names none.

    Raises `ConfigurationError`.
    """
    own = getattr(view_at(path_info), "view_initkwargs", {}).get("schema")
    return get_schema() if own is None else own
