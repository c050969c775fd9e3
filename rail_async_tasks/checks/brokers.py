"""Checks the backend and the options that it must support (E013, E019, E020, W008, W009)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error, Warning

from rail_async_tasks import backends, conf
from rail_async_tasks.backends.broker import BrokerBackend, ThreadedBrokerBackend
from rail_async_tasks.checks.settings import APP, DOTTED_KEYS, import_problems
from rail_async_tasks.errors import ConfigurationError
from rail_async_tasks.registry import registry


def check_backend(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Checks the project's set-up of the backend's framework (E019, W008)."""
    # Other checks report wrong settings and missing packages.
    with contextlib.suppress(ConfigurationError):
        settings = conf.get_settings()
        try:
            broker = backends.find_broker(settings)
        except ConfigurationError as error:
            place, problem_of = 'task_settings["backend"]', DOTTED_KEYS["backend"]
            if "." not in settings.backend or any(
                import_problems(settings.backend, place, "E013", problem_of)
            ):
                return []
            hint = "The class is called without arguments, and must not connect to anything yet."
            return [Error(str(error), hint=hint, id=f"{APP}.E013")]
        return [] if broker is None else [*_without_push(broker), *broker.check()]
    return []


def _without_push(broker: BrokerBackend) -> Iterator[CheckMessage]:
    kind = type(broker)
    if kind.push is BrokerBackend.push or (
        kind.push is ThreadedBrokerBackend.push
        and getattr(kind, "push_here", None) is ThreadedBrokerBackend.push_here
    ):
        message = f'task_settings["backend"]: "{broker.name}" has no method push.'
        hint = "Implement push(); or push_here(), if it is a ThreadedBrokerBackend."
        yield Error(message, hint=hint, id=f"{APP}.E013")


def check_capabilities(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Reports options that the backend does not support (E020).

    The default priorities of `high` and `low` do not count as asked for.
    """
    found: list[CheckMessage] = []
    # The right ones, whatever else is wrong: one mistake does not hide another.
    settings = conf.TaskSettings(**conf.read().task_values)
    with contextlib.suppress(ConfigurationError):
        can = backends.get_backend(settings).capabilities
        for name, queue in settings.queues.items():
            usual = conf.DEFAULT_QUEUES.get(name, conf.QueueSettings())
            place = f'task_settings["queues"]["{name}"]'
            if queue.priority != usual.priority and not can.queue_priority:
                message = f'{place}: the backend "{settings.backend}" has no priorities of queues.'
                hint = "Remove the priority, and start workers that serve that queue alone."
                found.append(Error(message, hint=hint, id=f"{APP}.E020"))
            if queue.concurrency is not None and not can.queue_concurrency:
                message = f'{place}: the backend "{settings.backend}" has no concurrency per queue.'
                hint = "Remove it, and start a worker for that queue alone with so many slots."
                found.append(Error(message, hint=hint, id=f"{APP}.E020"))
        for definition in registry.definitions():
            if definition.options.priority and not can.priority:
                message = (
                    f"The task {definition.name!r} has a priority, and the backend"
                    f' "{settings.backend}" starts the tasks of a queue in order of arrival.'
                )
                hint = "Remove the priority, or give the task a queue and workers of its own."
                found.append(Error(message, hint=hint, id=f"{APP}.E020"))
    return found


def check_bus(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Warns if watchers do not get the changes of workers at once (W009)."""
    with contextlib.suppress(ConfigurationError):
        settings = conf.get_settings()
        if settings.bus == "memory" and backends.find_broker(settings) is not None:
            message = (
                f'The backend "{settings.backend}" runs tasks in workers, and the bus "memory"'
                " reaches no other process: subscriptions read the rows again every 2 s."
            )
            hint = 'Set task_settings["redis_url"], and leave "bus" out or set it to "redis".'
            return [Warning(message, hint=hint, id=f"{APP}.W009")]
    return []
