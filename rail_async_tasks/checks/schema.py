"""Checks that the settings make a GraphQL schema (E021)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error

from rail_async_tasks import conf
from rail_async_tasks.checks.settings import APP, extension_problems, schema_problems
from rail_async_tasks.errors import ConfigurationError, TaskDeclarationError
from rail_async_tasks.registry import registry

HINT = (
    "Until then every request to /graphql/ is answered with 503. Rename a type or a field by "
    '@strawberry.type(name="...") or strawberry.field(name="..."), rename ours by '
    'schema_settings["rename"], or take the type out of schema_settings; '
    '"from rail_async_tasks.graphql.schema import build_schema; build_schema()" '
    "shows the whole error."
)


def check_schema(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Builds the schema, as the first request would, and reports its error.

    It takes some hundredths of a second; `runserver` then serves this schema.
    """
    # Only here: a process that runs no checks need not load the schema's modules.
    from rail_async_tasks.graphql.schema import get_schema

    parsed = conf.read()
    if parsed.schema is None or extension_problems(parsed) or schema_problems(parsed):
        return []  # what other checks report
    try:
        registry.resolve()
    except TaskDeclarationError:
        return []  # E018
    try:
        get_schema()
    except ConfigurationError as error:
        return [Error(line, hint=HINT, id=f"{APP}.E021") for line in str(error).splitlines()]
    return []
