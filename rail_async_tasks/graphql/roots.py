"""Our root types, `Query`, `Mutation` and `Subscription`, under the names of the settings."""

from __future__ import annotations

import copy
import keyword
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import strawberry
from strawberry.types.field import StrawberryField
from strawberry.utils.str_converters import to_camel_case

from rail_async_tasks.graphql.mutations import Mutation
from rail_async_tasks.graphql.names import new_names
from rail_async_tasks.graphql.queries import Query
from rail_async_tasks.graphql.subscriptions import Subscription

ROOTS = {"Query": Query, "Mutation": Mutation, "Subscription": Subscription}


def root_type(root: str) -> type:
    """Returns a root type, whose fields have the names of the settings. It may have none."""
    base = ROOTS[root]
    names = new_names()
    mine = {name: names[name] for name in map(graphql_name, fields_of(base)) if name in names}
    return _renamed(base, tuple(mine.items())) if mine else base


def fields_of(type_: Any) -> list[StrawberryField]:
    """Returns the fields of a Strawberry type."""
    found: list[StrawberryField] = type_.__strawberry_definition__.fields
    return found


def graphql_name(field: StrawberryField) -> str:
    """Returns the name of a field of ours in the documentation: camel case."""
    return to_camel_case(field.python_name)


@cache
def _renamed(base: type, names: tuple[tuple[str, str | None], ...]) -> type:
    new: Mapping[str, str | None] = dict(names)
    namespace: dict[str, Any] = {"__doc__": base.__doc__, "__module__": base.__module__}
    for field in fields_of(base):
        old = graphql_name(field)
        name = new.get(old, old)
        if name is None:
            continue
        fresh = copy.copy(field)
        if name != old:
            fresh.graphql_name = name
        # The Python name changes too: by it a merge finds out that two types have one field.
        namespace[field.python_name if name == old else _python_name(name)] = fresh
    return strawberry.type(type(base.__name__, (), namespace))


def _python_name(name: str) -> str:
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return f"{snake}_" if keyword.iskeyword(snake) else snake
