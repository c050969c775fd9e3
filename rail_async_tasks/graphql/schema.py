"""The GraphQL schema that our view and consumer serve: the project's own, or a merged one."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import strawberry
from django.conf import settings as django_settings
from django.core.signals import setting_changed
from graphql import (
    GraphQLError,
    NoSchemaIntrospectionCustomRule,
    get_introspection_query,
    graphql_sync,
)
from strawberry.extensions import SchemaExtension
from strawberry.extensions.runner import SchemaExtensionsRunner
from strawberry.types import ExecutionContext

from rail_async_tasks.conf import (
    SETTING,
    get_schema_settings,
    get_settings,
    import_from_setting,
)
from rail_async_tasks.errors import ConfigurationError
from rail_async_tasks.graphql import errors as client_errors
from rail_async_tasks.graphql.documents import OneOperation, current
from rail_async_tasks.graphql.merging import (
    merged_roots,
    place,
    schema_extensions,
    strawberry_config,
)
from rail_async_tasks.graphql.validation import with_kept_document

_INTROSPECTION = re.compile(r"__(schema|type)\b")


class TaskSchema(strawberry.Schema):
    """A schema whose errors carry codes, for use in place of `strawberry.Schema`.

    A document with several operations is refused unless the request names one. Introspection is as
    `task_settings["introspection"]` says.
    """

    def _create_execution_context(self, *args: Any, **kwargs: Any) -> ExecutionContext:
        context = super()._create_execution_context(*args, **kwargs)
        context.__class__ = OneOperation  # Strawberry has no place to say which class it makes
        document = current(context.query)
        context.graphql_document = None if document is None else document.node
        # An extension may find a document that the request does not hold.
        introspects = not context.query or _INTROSPECTION.search(context.query)
        if introspects and not introspection_is_on():
            rules = (*context.validation_rules, NoSchemaIntrospectionCustomRule)
            context.validation_rules = rules
        return context

    def create_extensions_runner(
        self, execution_context: ExecutionContext, extensions: list[SchemaExtension]
    ) -> SchemaExtensionsRunner:
        """Returns the runner of the schema's extensions and, after them, of our own."""
        make = super().create_extensions_runner
        return with_kept_document(make, execution_context, extensions)

    def introspect(self) -> dict[str, Any]:
        """Returns the result of the introspection query, for the project's own code."""
        result = graphql_sync(self._schema, get_introspection_query())
        if result.errors or result.data is None:
            raise ValueError(f"Invalid Schema. Errors {result.errors!r}")
        return result.data

    def process_errors(
        self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None
    ) -> None:
        client_errors.bound(errors)
        if not introspection_is_on():
            client_errors.leave_suggestions_out(errors)
        for error in errors:
            client_errors.process(error, execution_context)


def introspection_is_on() -> bool:
    """Returns whether clients may read the schema: the setting, else `DEBUG`."""
    return _as_debug("introspection")


def console_is_on() -> bool:
    """Returns whether the console is served: the setting, else `DEBUG`."""
    return _as_debug("console")


def _as_debug(key: str) -> bool:
    try:
        chosen: bool | None = getattr(get_settings(), key)
    except ConfigurationError:  # every operation is refused for it
        chosen = None
    return bool(django_settings.DEBUG) if chosen is None else chosen


@cache
def get_schema() -> strawberry.Schema:
    """Returns the schema of the settings, built at first use. Raises `ConfigurationError`."""
    path = get_schema_settings().schema
    return build_schema() if path is None else own_schema(path)


def own_schema(path: str) -> strawberry.Schema:
    """Returns the project's schema at a dotted path. Raises `ConfigurationError`."""
    found = import_from_setting(path, place("schema"))
    if not isinstance(found, strawberry.Schema):
        raise ConfigurationError(f"{place('schema')}: {path!r} is no strawberry.Schema.")
    return found


def build_schema() -> TaskSchema:
    """Merges a schema by the settings.

    Raises `ConfigurationError`, with a line for each clash of fields, where the extensions make no
    schema: one cannot be imported, is no type, or does not go with the others.
    """
    settings = get_schema_settings()
    config = strawberry_config(settings.config)
    extensions = schema_extensions(settings.extensions)
    roots = merged_roots(settings, config.name_converter)
    try:
        return TaskSchema(**roots, extensions=extensions, config=config)  # type: ignore[arg-type]
    except Exception as error:  # whatever Strawberry and graphql-core find wrong
        said = " ".join(str(error).split())
        raise ConfigurationError(f"The GraphQL schema cannot be built: {said}") from error


def _forget(*, setting: str, **_: Any) -> None:
    if setting == SETTING:
        get_schema.cache_clear()


setting_changed.connect(_forget, dispatch_uid="rail_async_tasks.graphql.schema")
