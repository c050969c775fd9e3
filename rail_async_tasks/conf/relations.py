"""Rules between the keys of `task_settings`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rail_async_tasks.conf import problems as ids
from rail_async_tasks.conf.levels import TASKS
from rail_async_tasks.conf.model import IN_PROCESS_BACKENDS, QueueSettings, TaskSettings
from rail_async_tasks.conf.problems import Report, did_you_mean, shown


def check_relations(values: Mapping[str, Any], wrong: set[str], report: Report) -> None:
    """Report the pairs of keys that contradict each other. Skips the keys in `wrong`."""
    defaults = TaskSettings()

    def known(*keys: str) -> bool:
        return wrong.isdisjoint(keys)

    def get(key: str) -> Any:
        return values.get(key, getattr(defaults, key))

    def needs(key: str, value: str, other: str, example: str) -> None:
        if known(key, other) and get(key) == value and get(other) is None:
            report.error(
                ids.NEEDS_ANOTHER,
                TASKS / key,
                f'is "{value}", which needs {other}',
                f'Set {TASKS / other}, for example to "{example}".',
            )

    needs("backend", "arq", "redis_url", "redis://localhost:6379/0")
    needs("bus", "redis", "redis_url", "redis://localhost:6379/0")
    needs("backend", "celery", "celery_app", "root.celery.app")
    needs("on_failure", "callback", "failure_callback", "shop.tasks.notify")

    if known("queues", "default_queue") and get("default_queue") not in get("queues"):
        report.error(
            ids.UNKNOWN_DEFAULT_QUEUE,
            TASKS / "default_queue",
            f"is not one of the queues: {shown(get('default_queue'))}",
            did_you_mean(get("default_queue"), get("queues"), "The queues are")
            + f" Or add it to {TASKS / 'queues'}.",
        )
    if (
        known("track_in_database", "backend")
        and not get("track_in_database")
        and get("backend") not in IN_PROCESS_BACKENDS
    ):
        report.error(
            ids.CONTRADICTION,
            TASKS / "track_in_database",
            f'is False, but the backend "{get("backend")}" runs tasks in other processes, which '
            "know them from the database",
            f"Set it to True, or use one of the backends {', '.join(IN_PROCESS_BACKENDS)}.",
        )
    if known("retry_delay", "retry_max_delay") and get("retry_max_delay") < get("retry_delay"):
        report.warning(
            ids.WITHOUT_EFFECT,
            TASKS / "retry_delay",
            f"is {get('retry_delay'):g}, but retry_max_delay cuts it to {get('retry_max_delay'):g}",
            "Lower retry_delay, or raise retry_max_delay.",
        )
    if known("backend", "queues") and get("backend") == "sync":
        _check_rates(get("queues"), report)
    if known("failure_callback", "on_failure") and (
        get("failure_callback") is not None and get("on_failure") == "log"
    ):
        report.warning(
            ids.WITHOUT_EFFECT,
            TASKS / "failure_callback",
            'is never called, because on_failure is "log"',
            f'Set {TASKS / "on_failure"} to "callback".',
        )
    if known("authenticator", "jwt") and None not in (get("authenticator"), get("jwt")):
        report.warning(
            ids.WITHOUT_EFFECT,
            TASKS / "jwt",
            "is not looked at, because authenticator replaces it",
            "Keep one of the two.",
        )


def _check_rates(queues: Mapping[str, QueueSettings], report: Report) -> None:
    """Warns of rates under the `sync` backend."""
    for name, queue in queues.items():
        if queue.rate is not None:
            report.warning(
                ids.WITHOUT_EFFECT,
                TASKS / "queues" / name / "rate",
                'is not kept, because the backend "sync" runs each task at once in its caller',
                "Use another backend where the rate matters.",
            )
