"""Merges the base types with the types that the settings name."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any, cast

from strawberry.extensions import SchemaExtension
from strawberry.schema.config import StrawberryConfig
from strawberry.schema.name_converter import NameConverter
from strawberry.tools import merge_types
from strawberry.types.base import has_object_definition

from rail_async_tasks.conf import SETTING, SchemaSettings, import_from_setting
from rail_async_tasks.errors import ConfigurationError
from rail_async_tasks.graphql.roots import ROOTS, fields_of, root_type

Factory = type[SchemaExtension] | Callable[[], SchemaExtension]


def place(key: str) -> str:
    """Returns a key of `schema_settings` as messages write it."""
    return f'{SETTING}["schema_settings"]["{key}"]'


def merged_roots(settings: SchemaSettings, names: NameConverter) -> dict[str, type | None]:
    """Returns the root types of the schema by Strawberry's names for them: `query` and so on.

    Raises `ConfigurationError`, with a line for each clash of fields.
    """
    paths = {
        "Query": settings.query_extensions,
        "Mutation": settings.mutation_extensions,
        "Subscription": settings.subscription_extensions,
    }
    roots = {root: tuple(_types(root, paths[root])) for root in ROOTS}
    if clashes := [line for root, types in roots.items() for line in _clashes(root, types, names)]:
        raise ConfigurationError("\n".join(clashes))
    if not roots["Query"]:
        raise ConfigurationError(
            f"{place('rename')} leaves out every field of Query, and {place('query_extensions')}"
            " names no type: a schema needs a query."
        )
    return {root.lower(): _merged(root, types) for root, types in roots.items()}


def _merged(root: str, types: tuple[type, ...]) -> type | None:
    if not types:
        return None
    return merge_types(root, types) if len(types) > 1 else types[0]


def _types(root: str, paths: tuple[str, ...]) -> Iterator[type]:
    base = root_type(root)
    if fields_of(base):
        yield base
    for path in paths:
        setting = place(f"{root.lower()}_extensions")
        found = import_from_setting(path, setting)
        if not (isinstance(found, type) and has_object_definition(found)):
            raise ConfigurationError(f"{setting}: {path!r} is not a type made by @strawberry.type.")
        yield found


def _clashes(root: str, types: tuple[type, ...], names: NameConverter) -> Iterator[str]:
    """Returns fields with one name, which a merge would silently reduce to one."""
    owners: dict[str, type] = {}
    for type_ in types:
        for field in fields_of(type_):
            name = names.from_field(field)
            if name in owners:
                yield (
                    f"{place(f'{root.lower()}_extensions')}: the field {name!r} is declared by "
                    f"{_both(owners[name], type_)}; rename one of them."
                )
            owners[name] = type_


def _both(first: type, second: type) -> str:
    return _path(first) + (" twice" if first is second else f" and {_path(second)}")


def _path(type_: type) -> str:
    return f"{type_.__module__}.{type_.__qualname__}"


def strawberry_config(path: str | None) -> StrawberryConfig:
    """Returns the config at a dotted path, or Strawberry's own. Raises `ConfigurationError`."""
    if path is None:
        return StrawberryConfig()
    found = import_from_setting(path, place("config"))
    if not isinstance(found, StrawberryConfig):
        raise ConfigurationError(f"{place('config')}: {path!r} is no StrawberryConfig.")
    return found


def schema_extensions(paths: tuple[str, ...]) -> list[Factory]:
    """Returns a factory for each dotted path: of a class, a factory or an instance.

    Raises `ConfigurationError`.
    """
    return [_factory(path, import_from_setting(path, place("extensions"))) for path in paths]


def _factory(path: str, found: Any) -> Factory:
    if isinstance(found, SchemaExtension):
        # Strawberry keeps the operation in the extension: one instance may serve one operation.
        return lambda: copy.copy(found)
    if callable(found) and isinstance(_made(path, found), SchemaExtension):
        return cast("Factory", found)
    raise ConfigurationError(
        f"{place('extensions')}: {path!r} is no Strawberry schema extension: neither a class, nor"
        " an instance, nor a function that returns one."
    )


def _made(path: str, factory: Callable[[], Any]) -> Any:
    try:
        return factory()
    except Exception as error:
        raise ConfigurationError(
            f"{place('extensions')}: {path!r} cannot be called without arguments"
            f" ({type(error).__name__}: {error})."
        ) from error
