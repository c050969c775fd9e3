"""Parses the settings as written into typed ones and a complete list of problems. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

from rail_async_tasks.conf import problems as ids
from rail_async_tasks.conf.credentials import encryption_keys, jwt
from rail_async_tasks.conf.levels import (
    EXTENSIONS,
    SCHEMA,
    SETTING,
    STRAY_TASK_KEYS,
    TASKS,
    check_root,
    check_schema,
)
from rail_async_tasks.conf.limits import limits, trusted_proxies
from rail_async_tasks.conf.model import (
    BUSES,
    SchemaSettings,
    TaskSettings,
)
from rail_async_tasks.conf.problems import (
    Place,
    Report,
    SettingProblem,
    shown,
)
from rail_async_tasks.conf.queues import queues
from rail_async_tasks.conf.relations import check_relations
from rail_async_tasks.conf.rules import (
    MAX_QUEUE_NAME,
    Rule,
    backend,
    dotted_path,
    dotted_paths,
    flag,
    known_keys,
    number,
    one_of,
    or_none,
    rate,
    redis_url,
    whole,
    word,
)
from rail_async_tasks.conf.schema_rules import check_schema_relations, rename

_SCHEMA_RULES: Final[Mapping[str, Rule]] = {
    **dict.fromkeys(EXTENSIONS, dotted_paths),
    "schema": or_none(dotted_path, "the schema that this package merges"),
    "extensions": dotted_paths,
    "config": or_none(dotted_path, "Strawberry's defaults"),
    "rename": rename,
}

_RULES: Final[Mapping[str, Rule]] = {
    "enabled": flag,
    "backend": backend,
    "default_queue": word(MAX_QUEUE_NAME),
    "queues": queues,
    "max_concurrency": whole(low=1),
    "max_workers": whole(low=1),
    "max_pending": or_none(whole(), "no limit"),
    "max_pending_per_owner": or_none(whole(), "no limit"),
    "rate_limit": or_none(rate, "no limit"),
    "result_ttl_seconds": or_none(number(60), "never expires"),
    "max_retries": whole(),
    "retry_delay": number(),
    "retry_backoff": flag,
    "retry_max_delay": number(),
    "retry_jitter": number(0, 1, unit="share"),
    "timeout": or_none(number(above=True), "no limit"),
    "max_crashes": whole(),
    "track_in_database": flag,
    "emit_subscriptions": flag,
    "subscription_channel": word(100),
    "progress_interval_seconds": number(above=True),
    "bus": one_of(*BUSES),
    "redis_url": or_none(redis_url, "no Redis"),
    "celery_app": or_none(dotted_path, "no Celery"),
    "lease_seconds": number(above=True),
    "cancel_grace_seconds": number(),
    "unknown_task_seconds": number(),
    "drain_seconds": number(),
    "on_failure": one_of("log", "callback"),
    "failure_callback": or_none(dotted_path, "no callback"),
    "metrics_enabled": flag,
    "otel_enabled": flag,
    "log_task_start": flag,
    "log_task_complete": flag,
    "log_failures": flag,
    "carry_language": flag,
    "slow_task_threshold_seconds": or_none(number(), "no warning"),
    "audit_enabled": flag,
    "audit_retention_days": whole(low=1, high=36_500),
    "statistics_enabled": flag,
    "max_args_bytes": whole(low=1),
    "max_result_bytes": whole(low=1),
    "anonymous_access": one_of("by_id", "deny"),
    "public_errors": one_of("all", "declared"),
    "tenant_resolver": or_none(dotted_path, "request.tenant_id where it exists"),
    "authenticator": or_none(dotted_path, "session and JWT"),
    "around_task": or_none(dotted_path, "nothing around bodies"),
    "encryption_keys": or_none(encryption_keys, "no encryption"),
    "limits": limits,
    "trusted_proxies": trusted_proxies,
    "jwt": or_none(jwt, "no bearer tokens"),
    "introspection": or_none(flag, "as DEBUG"),
    "console": or_none(flag, "as DEBUG"),
}


@dataclass(frozen=True, slots=True)
class Parsed:
    """The result of parsing.

    `tasks` and `schema` are None where their part has an error. `task_values` and `schema_values`
    hold the valid values even then, so that the checks can use them.
    """

    tasks: TaskSettings | None
    schema: SchemaSettings | None
    problems: tuple[SettingProblem, ...]
    task_values: Mapping[str, Any]
    schema_values: Mapping[str, Any]

    @property
    def extensions(self) -> Mapping[str, tuple[str, ...]]:
        """The dotted paths of the types that are merged into the schema, by key."""
        return {key: self.schema_values[key] for key in EXTENSIONS if key in self.schema_values}

    @property
    def errors(self) -> tuple[SettingProblem, ...]:
        return tuple(problem for problem in self.problems if problem.level == "error")


def parse(root: object) -> Parsed:
    """Reads the whole of `RAIL_DJANGO_GRAPHQL`. Never raises."""
    report = Report()
    if not isinstance(root, Mapping):
        report.error(
            ids.NOT_A_DICT,
            Place(SETTING),
            f"must be a dict, not {shown(root)}",
            f'Write {SETTING} = {{"task_settings": {{...}}}}, or remove it.',
        )
        return Parsed(None, None, tuple(report.problems), {}, {})
    check_root(root, report)

    task_report = Report()
    values = _task_values(root.get(TASKS.section, {}), task_report)
    tasks = None if _has_errors(task_report) else TaskSettings(**values)

    schema_report = Report()
    schema_values = _schema_values(root.get(SCHEMA.section, {}), schema_report)
    schema = None if _has_errors(schema_report) else SchemaSettings(**schema_values)

    found = (*report.problems, *task_report.problems, *schema_report.problems)
    return Parsed(tasks, schema, found, values, schema_values)


def parse_settings(raw: object) -> tuple[TaskSettings | None, list[SettingProblem]]:
    """Reads the content of `task_settings`. The settings are None where any error was found."""
    report = Report()
    values = _task_values(raw, report)
    return (None if _has_errors(report) else TaskSettings(**values)), report.problems


def parse_schema_settings(raw: object) -> tuple[SchemaSettings | None, list[SettingProblem]]:
    """Reads the content of `schema_settings`, as `parse_settings` does."""
    report = Report()
    values = _schema_values(raw, report)
    return (None if _has_errors(report) else SchemaSettings(**values)), report.problems


def _has_errors(report: Report) -> bool:
    return any(problem.level == "error" for problem in report.problems)


def _task_values(raw: object, report: Report) -> dict[str, Any]:
    """Returns the valid values, typed, by key."""
    if not _is_section(raw, TASKS, report):
        return {}
    known_keys(raw, _RULES, TASKS, report, STRAY_TASK_KEYS)
    values: dict[str, Any] = {}
    wrong: set[str] = set()
    for key, rule in _RULES.items():
        if key in raw:
            own = Report()
            value = rule(raw[key], TASKS / key, own)
            report.problems.extend(own.problems)
            if _has_errors(own):
                wrong.add(key)
            else:
                values[key] = value
    if "bus" not in raw and values.get("redis_url") is not None:
        values["bus"] = "redis"
    check_relations(values, wrong, report)
    return values


def _schema_values(raw: object, report: Report) -> dict[str, Any]:
    """Returns the valid values by key; of a list, the well-formed paths.

    Unknown keys belong to other packages.
    """
    if not _is_section(raw, SCHEMA, report):
        return {}
    check_schema(raw, report)
    values: dict[str, Any] = {}
    for key, rule in _SCHEMA_RULES.items():
        if key in raw:
            own = Report()
            value = rule(raw[key], SCHEMA / key, own)
            report.problems.extend(own.problems)
            if rule is dotted_paths or not _has_errors(own):
                values[key] = value
    check_schema_relations(values, report)
    return values


def _is_section(raw: object, place: Place, report: Report) -> TypeGuard[Mapping[Any, Any]]:
    if isinstance(raw, Mapping):
        return True
    hint = f'Write {SETTING} = {{"{place}": {{...}}}}, or remove "{place}" for the defaults.'
    report.error(ids.NOT_A_DICT, place, f"must be a dict, not {shown(raw)}", hint)
    return False
