"""The GraphQL schema: the base types merged with the types that the settings name."""

from __future__ import annotations

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
from rail_async_tasks.graphql.mutations import Mutation
from rail_async_tasks.graphql.queries import Query
from rail_async_tasks.graphql.subscriptions import Subscription


class TaskSchema(strawberry.Schema):
    """A schema whose errors carry codes, for use in place of `strawberry.Schema`."""

    def process_errors(
        self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None
    ) -> None:
        for error in errors:
            client_errors.process(error, execution_context)


@cache
def get_schema() -> TaskSchema:
    """The schema by the settings, built at first use. Raises `ConfigurationError`."""
    return build_schema()


def build_schema() -> TaskSchema:
    """A new schema by the settings. Raises `ConfigurationError` where an extension is no good."""
    extensions = get_schema_settings()
    query = _merged("Query", Query, extensions.query_extensions)
    mutation = _merged("Mutation", Mutation, extensions.mutation_extensions)
    subscription = _merged("Subscription", Subscription, extensions.subscription_extensions)
    try:
        return TaskSchema(query=query, mutation=mutation, subscription=subscription)
    except Exception as error:
        raise ConfigurationError(f"The GraphQL schema cannot be built: {error}") from error


def _merged(name: str, base: type, paths: tuple[str, ...]) -> type:
    setting = f'{SETTING}["schema_settings"]["{name.lower()}_extensions"]'
    types = [base, *(_imported(path, setting) for path in paths)]
    _refuse_duplicate_fields(types, setting)
    return merge_types(name, tuple(types)) if paths else base


def _imported(path: str, setting: str) -> type:
    found = import_from_setting(path, setting)
    if not (isinstance(found, type) and has_object_definition(found)):
        raise ConfigurationError(f"{setting}: {path!r} is not a type made by @strawberry.type.")
    return found


def _refuse_duplicate_fields(types: list[type], setting: str) -> None:
    """Merging would let one of two fields of a name win without a word."""
    graphql_name = NameConverter().get_graphql_name
    owners: dict[str, type] = {}
    for type_ in types:
        definition: Any = type_.__strawberry_definition__  # type: ignore[attr-defined]
        for field in definition.fields:
            name = graphql_name(field)
            if name in owners:
                raise ConfigurationError(
                    f"{setting}: the field {name!r} is declared by "
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
