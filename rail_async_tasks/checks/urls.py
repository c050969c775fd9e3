"""Checks that what was declared for GraphQL is served (W015, W016), and can be read (W017)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Warning
from django.urls import get_resolver
from strawberry.django.views import BaseView
from strawberry.http.async_base_view import AsyncBaseHTTPView
from strawberry.schema.base import BaseSchema

from rail_async_tasks import conf
from rail_async_tasks.checks.reading_back import check_reading_back
from rail_async_tasks.checks.settings import APP
from rail_async_tasks.errors import ConfigurationError

VIEW_HINT = (
    'In urls.py: urlpatterns = [..., path("", include("rail_async_tasks.urls"))]; or serve a schema'
    " of your own by a view of Strawberry's."
)
FIELD_HINT = (
    "Make it an attribute of a class under @strawberry.type, and add the class's dotted path to"
    f' {conf.SETTING}["schema_settings"]["mutation_extensions"], or the class to the mutations of'
    " your own schema. Declare a task by @task where only Python starts it."
)


def check_urls(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Warns if mutations are declared and no URL serves GraphQL (W015), or not these (W016).

    Also if a schema serves them, and no field to read the started tasks by (W017).
    """
    from rail_async_tasks.graphql.decorator import declared_mutations

    parsed = conf.read()
    names = declared_mutations()
    if parsed.task_values.get("enabled") is False or not (names or any(parsed.extensions.values())):
        return []
    try:
        views = list(_graphql_views(get_resolver().url_patterns))
    except Exception:  # noqa: BLE001 (Django's own checks report broken URLs)
        return []
    if not views:
        message = "GraphQL is served by no URL, and this project has mutations for it."
        return [Warning(message, hint=VIEW_HINT, id=f"{APP}.W015")]
    try:
        schemas = _schemas(views)
    except ConfigurationError:  # E021
        return []
    served: set[str] = set()
    found: list[CheckMessage] = []
    for schema, kinds in schemas:
        if tasks := set(_tasks_of(schema)):
            served |= tasks
            shown = " and ".join(sorted({kind.__name__ for kind in kinds}))
            streams = any(issubclass(kind, AsyncBaseHTTPView) for kind in kinds)
            found += check_reading_back(schema, shown, streams=streams)
    return [*map(_unserved, sorted(names - served)), *found]


def _unserved(name: str) -> CheckMessage:
    message = f"Task {name!r} is declared by @task_mutation, and no schema has its mutation."
    return Warning(message, hint=FIELD_HINT, id=f"{APP}.W016")


def _graphql_views(patterns: Sequence[Any]) -> Iterator[Any]:
    for pattern in patterns:
        if hasattr(pattern, "url_patterns"):
            yield from _graphql_views(pattern.url_patterns)
        else:
            kind = getattr(pattern.callback, "view_class", None)
            if isinstance(kind, type) and issubclass(kind, BaseView):
                yield pattern.callback


def _schemas(views: Sequence[Any]) -> list[tuple[BaseSchema, list[type]]]:
    """Returns each schema with the classes of its views.

    Raises `ConfigurationError` where a view serves the settings' schema, and they make none.
    """
    from rail_async_tasks.graphql.schema import get_schema

    found: dict[int, tuple[BaseSchema, list[type]]] = {}
    for view in views:
        schema = getattr(view, "view_initkwargs", {}).get("schema") or get_schema()
        found.setdefault(id(schema), (schema, []))[1].append(view.view_class)
    return list(found.values())


def _tasks_of(schema: BaseSchema) -> Iterator[str]:
    """Yields the names of the tasks whose mutations are in any type: they may be nested."""
    from rail_async_tasks.graphql.decorator import MutationField

    for known in schema.schema_converter.type_map.values():
        for field in getattr(known.definition, "fields", ()):
            if isinstance(field, MutationField) and field.definition is not None:
                yield field.definition.name
