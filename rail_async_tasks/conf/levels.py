"""Finds keys of `RAIL_DJANGO_GRAPHQL` that are in the wrong section. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields
from typing import Any, Final

from rail_async_tasks.conf import problems as ids
from rail_async_tasks.conf.model import (
    JwtSettings,
    LimitSettings,
    QueueSettings,
    SchemaSettings,
    TaskSettings,
)
from rail_async_tasks.conf.problems import Place, Report, SettingProblem, nearest

SETTING: Final = "RAIL_DJANGO_GRAPHQL"
TASKS: Final = Place("task_settings")
SCHEMA: Final = Place("schema_settings")
SECTIONS: Final = (TASKS.section, SCHEMA.section)

# Other packages keep their own sections and keys in the same dict, so only what looks very much
# like one of ours is called a misspelling ("task_setting", not "test_settings").
_ALIKE: Final = 0.9
_GUESSES: Final = ("RAIL_ASYNC_TASKS", "RAIL_ASYNC_TASKS_SETTINGS")


def _names(model: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(model))


# The types that are merged into the schema. No other package has keys of these names.
EXTENSIONS: Final = ("query_extensions", "mutation_extensions", "subscription_extensions")
_SCHEMA_KEYS: Final = _names(SchemaSettings)


def _homes(*groups: tuple[Iterable[str], str]) -> dict[str, str]:
    return {key: f"Move it into {SETTING}{place}." for keys, place in groups for key in keys}


_TO_ROOT: Final = _homes((SECTIONS, ""))
_TO_SCHEMA: Final = _homes((EXTENSIONS, '["schema_settings"]'))
_TO_TASKS: Final = _homes(
    (_names(LimitSettings), '["task_settings"]["limits"]'),
    (_names(TaskSettings), '["task_settings"]'),
)

# For `task_settings`: the remedy for a key that belongs to another section.
STRAY_TASK_KEYS: Final[Mapping[str, str]] = {
    **_homes(
        (_names(JwtSettings), '["task_settings"]["jwt"]'),
        (_names(QueueSettings), '["task_settings"]["queues"][<name>]'),
        (_names(LimitSettings), '["task_settings"]["limits"]'),
    ),
    **_homes((_SCHEMA_KEYS, '["schema_settings"]')),
    **_TO_ROOT,
}


def name_problems(names: Collection[str]) -> list[SettingProblem]:
    """Returns a problem per Django setting that looks like a misspelt RAIL_DJANGO_GRAPHQL."""
    report = Report()
    if SETTING not in names:
        for name in names:
            if name in _GUESSES or nearest(name, [SETTING], cutoff=_ALIKE) is not None:
                hint = f'Did you mean "{SETTING}"?'
                report.warning(ids.MISSPELT, Place(name), "is not read by rail_async_tasks", hint)
    return report.problems


def check_root(raw: Collection[Any], report: Report) -> None:
    """Reports wrong keys of `RAIL_DJANGO_GRAPHQL` itself."""
    _check(raw, SECTIONS, Place(SETTING), {**_TO_TASKS, **_TO_SCHEMA}, report)


def check_schema(raw: Collection[Any], report: Report) -> None:
    """Reports wrong keys of `schema_settings`."""
    _check(raw, _SCHEMA_KEYS, SCHEMA, {**_TO_TASKS, **_TO_ROOT}, report)


def _check(
    raw: Collection[Any],
    own: Collection[str],
    place: Place,
    elsewhere: Mapping[str, str],
    report: Report,
) -> None:
    """Reports keys at `place` that belong to another section.

    An extension outside its section, or misspelt in it, is an error: its fields are missing from
    the schema, and no other package has a use for it. The rest may belong to another package: a
    warning.
    """
    for key in raw:
        if not isinstance(key, str) or key in own:
            continue
        meant: str | None = key
        if key in elsewhere:
            hint = elsewhere[key]
        elif (meant := nearest(key, (*own, *_TO_SCHEMA), cutoff=_ALIKE)) is not None:
            hint = f'Did you mean "{meant}"?'
            if meant not in own:
                hint = f"{hint} {elsewhere[meant]}"
        else:
            continue
        if meant in _TO_SCHEMA:
            report.error(ids.MISPLACED, place / key, "is no extension of the schema here", hint)
        else:
            report.warning(ids.MISSPELT, place / key, "is not read by rail_async_tasks", hint)
