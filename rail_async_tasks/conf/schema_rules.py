"""Rules of `schema_settings`: `rename`, and which keys exclude each other."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from rail_async_tasks.conf import problems as ids
from rail_async_tasks.conf.levels import SCHEMA
from rail_async_tasks.conf.problems import Place, Report, did_you_mean, shown

# What GraphQL calls our fields, by their type, and our types.
FIELDS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "Query": ("task", "tasks"),
        "Mutation": ("cancelTask", "retryTask"),
        "Subscription": ("taskProgress", "taskUpdated", "myTaskUpdates"),
    }
)
TYPES: Final = ("TaskExecution", "TaskMutationPayload")

_NAME: Final = re.compile(r"(?!__)[_A-Za-z][_0-9A-Za-z]*")
_EXAMPLE: Final = '{"tasks": "backgroundTasks", "cancelTask": None}'


def rename(value: Any, place: Place, report: Report) -> Any:
    """Returns new names by old ones, None for a field that is left out."""
    if not isinstance(value, Mapping):
        hint = f"Write new names by old ones, for example {_EXAMPLE}."
        report.error(ids.WRONG_TYPE, place, f"must be a dict, not {shown(value)}", hint)
        return {}
    known = [name for names in (*FIELDS.values(), TYPES) for name in names]
    for old, new in value.items():
        if old not in known:
            hint = did_you_mean(old, known, "Our fields and types are")
            report.error(ids.UNKNOWN_KEY, place / old, "is no field or type of ours", hint)
        elif new is None and old in TYPES:
            hint = "Write a name. Only a field can be left out; its type goes with the last field."
            report.error(ids.WRONG_TYPE, place / old, "must be a name: it is a type", hint)
        elif new is not None and not isinstance(new, str):
            hint = "Write the new name as text, or None to leave the field out."
            report.error(ids.WRONG_TYPE, place / old, f"must be text, not {shown(new)}", hint)
        elif new is not None and not _NAME.fullmatch(new):
            hint = 'Write letters, digits and "_", no digit first and no "__" first.'
            report.error(ids.MALFORMED, place / old, f"is no GraphQL name: {shown(new)}", hint)
    for names in (*FIELDS.values(), TYPES):
        _check_clashes(names, value, place, report)
    return MappingProxyType(dict(value))


def _check_clashes(
    names: tuple[str, ...], given: Mapping[Any, Any], place: Place, report: Report
) -> None:
    """Reports names that two fields of one type, or two types, would have."""
    by_name: dict[Any, list[str]] = defaultdict(list)
    for old in names:
        by_name[given.get(old, old)].append(old)
    for new, olds in by_name.items():
        if new is not None and isinstance(new, str) and len(olds) > 1:
            renamed = next(old for old in olds if old in given)
            others = " and ".join(f'"{old}"' for old in olds if old != renamed)
            hint = f'Give one of them another name; {others} would be called "{new}" too.'
            report.error(ids.CONTRADICTION, place / renamed, f'is "{new}", which is taken', hint)


def check_schema_relations(values: Mapping[str, Any], report: Report) -> None:
    """Reports keys that shape the merged schema beside one that replaces it."""
    if values.get("schema") is None:
        return
    for key in (
        "query_extensions",
        "mutation_extensions",
        "subscription_extensions",
        "extensions",
        "config",
    ):
        if values.get(key):
            report.error(
                ids.CONTRADICTION,
                SCHEMA / key,
                f"has no effect beside {SCHEMA / 'schema'}, which replaces the merged schema",
                f"Give it to {values['schema']} in the project's code and remove it here, or remove"
                f" {SCHEMA / 'schema'}.",
            )
