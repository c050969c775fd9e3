"""The settings: `RAIL_DJANGO_GRAPHQL["task_settings"]` and `["schema_settings"]`, read once.

The package reads them by `get_settings()`, which refuses wrong ones. The system checks use
`read()`, which never raises and returns every problem.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

from django.conf import settings as django_settings
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from rail_async_tasks.conf.levels import SETTING, name_problems
from rail_async_tasks.conf.model import (
    BACKENDS,
    BUSES,
    DEFAULT_QUEUES,
    IN_PROCESS_BACKENDS,
    OUT_OF_PROCESS_BACKENDS,
    JwtSettings,
    LimitSettings,
    QueueSettings,
    RateLimit,
    SchemaSettings,
    TaskSettings,
)
from rail_async_tasks.conf.parser import (
    Parsed,
    parse,
    parse_schema_settings,
    parse_settings,
)
from rail_async_tasks.conf.problems import SettingProblem
from rail_async_tasks.errors import ConfigurationError

__all__ = [
    "BACKENDS",
    "BUSES",
    "DEFAULT_QUEUES",
    "IN_PROCESS_BACKENDS",
    "OUT_OF_PROCESS_BACKENDS",
    "SETTING",
    "JwtSettings",
    "LimitSettings",
    "Parsed",
    "QueueSettings",
    "RateLimit",
    "SchemaSettings",
    "SettingProblem",
    "TaskSettings",
    "get_schema_settings",
    "get_settings",
    "import_from_setting",
    "parse",
    "parse_schema_settings",
    "parse_settings",
    "read",
    "validate",
]


def get_settings() -> TaskSettings:
    """Returns the task settings, the same object until Django's settings change.

    Raises `ConfigurationError`, which lists every error, where one of them is wrong.
    """
    parsed = _parsed()
    if parsed.tasks is None:
        raise ConfigurationError(_listing(parsed.errors))
    return parsed.tasks


def get_schema_settings() -> SchemaSettings:
    """Returns the schema settings; raises as `get_settings`, for these alone."""
    parsed = _parsed()
    if parsed.schema is None:
        raise ConfigurationError(_listing(parsed.errors))
    return parsed.schema


def read() -> Parsed:
    """Reads the settings anew, right or wrong. Never raises."""
    return parse(getattr(django_settings, SETTING, {}))


def validate() -> list[SettingProblem]:
    """Returns every problem of the current settings."""
    return [*name_problems(dir(django_settings)), *read().problems]


def import_from_setting(path: str, place: str) -> Any:
    """Imports the object that the dotted path of the setting `place` names.

    Raises `ConfigurationError` with the original error as its cause, of any type: an import
    runs the project's code.
    """
    try:
        return import_string(path)
    except Exception as error:
        raise ConfigurationError(
            f'{place}: "{path}" cannot be imported ({type(error).__name__}: {error}).'
        ) from error


_parsed = functools.cache(read)


def _listing(problems: Iterable[SettingProblem]) -> str:
    lines = [f"({problem.id}) {problem.message} {problem.hint}" for problem in problems]
    return "\n".join([f"{SETTING} is wrong:", *lines])


def _forget(*, setting: str, **_: Any) -> None:
    if setting == SETTING:
        _parsed.cache_clear()


setting_changed.connect(_forget, dispatch_uid="rail_async_tasks.conf")
