"""The GraphQL schema: the base types merged with the types that the settings name."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import strawberry
from django.core.signals import setting_changed
from graphql import GraphQLError
from strawberry.schema.name_converter import NameConverter
from strawberry.tools import merge_types
from strawberry.types import ExecutionContext
from strawberry.types.base import has_object_definition

from rail_async_tasks.conf import SETTING, get_schema_settings, import_from_setting
from rail_async_tasks.errors import ConfigurationError
from rail_async_tasks.graphql import errors as client_errors
from rail_async_tasks.graphql.documents import OneOperation
from rail_async_tasks.graphql.mutations import Mutation
from rail_async_tasks.graphql.queries import Query
from rail_async_tasks.graphql.subscriptions import Subscription


class TaskSchema(strawberry.Schema):
    """A schema whose errors carry codes, for use in place of `strawberry.Schema`.

    A document with several operations is refused unless the request names one.
    """

    def _create_execution_context(self, *args: Any, **kwargs: Any) -> ExecutionContext:
        context = super()._create_execution_context(*args, **kwargs)
        context.__class__ = OneOperation  # Strawberry has no place to say which class it makes
        return context

    def process_errors(
        self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None
    ) -> None:
        for error in errors:
            client_errors.process(error, execution_context)


@cache
def get_schema() -> TaskSchema:
    """Returns the schema of the settings, built at first use. Raises `ConfigurationError`."""
    return build_schema()


def build_schema() -> TaskSchema:
    """Builds a schema by the settings.

    Raises `ConfigurationError`, with a line for each clash of fields, where the extensions make no
    schema: one cannot be imported, is no type, or does not go with the others.
    """
    extensions = get_schema_settings()
    roots = {
        "Query": _types("query", Query, extensions.query_extensions),
        "Mutation": _types("mutation", Mutation, extensions.mutation_extensions),
        "Subscription": _types("subscription", Subscription, extensions.subscription_extensions),
    }
    if clashes := [line for name, types in roots.items() for line in _clashes(name, types)]:
        raise ConfigurationError("\n".join(clashes))
    try:
        query, mutation, subscription = (
            merge_types(name, types) if len(types) > 1 else types[0]
            for name, types in roots.items()
        )
        return TaskSchema(query=query, mutation=mutation, subscription=subscription)
    except Exception as error:  # whatever Strawberry and graphql-core find wrong
        said = " ".join(str(error).split())
        raise ConfigurationError(f"The GraphQL schema cannot be built: {said}") from error


def _types(root: str, base: type, paths: tuple[str, ...]) -> tuple[type, ...]:
    return (base, *(_imported(path, _setting(root)) for path in paths))


def _setting(root: str) -> str:
    return f'{SETTING}["schema_settings"]["{root.lower()}_extensions"]'


def _imported(path: str, setting: str) -> type:
    found = import_from_setting(path, setting)
    if not (isinstance(found, type) and has_object_definition(found)):
        raise ConfigurationError(f"{setting}: {path!r} is not a type made by @strawberry.type.")
    return found


def _clashes(root: str, types: tuple[type, ...]) -> Iterator[str]:
    """Returns fields with one name, which a merge would silently reduce to one."""
    graphql_name = NameConverter().get_graphql_name
    owners: dict[str, type] = {}
    for type_ in types:
        definition: Any = type_.__strawberry_definition__  # type: ignore[attr-defined]
        for field in definition.fields:
            name = graphql_name(field)
            if name in owners:
                yield (
                    f"{_setting(root)}: the field {name!r} is declared by "
                    f"{_both(owners[name], type_)}; rename one of them."
                )
            owners[name] = type_


def _both(first: type, second: type) -> str:
    return _path(first) + (" twice" if first is second else f" and {_path(second)}")


def _path(type_: type) -> str:
    return f"{type_.__module__}.{type_.__qualname__}"


def _forget(*, setting: str, **_: Any) -> None:
    if setting == SETTING:
        get_schema.cache_clear()


setting_changed.connect(_forget, dispatch_uid="rail_async_tasks.graphql.schema")
