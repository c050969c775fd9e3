"""Dramatiq's workers: an actor per queue takes ids, and a worker drains as ours do.

The actors are declared on the broker that the project has set, in each of its processes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import dramatiq
from dramatiq.middleware import MiddlewareError

from rail_async_tasks.backends.dramatiq import (
    ACTOR,
    declare_with,
    find_broker,
    is_name,
    queues,
    require_json,
)
from rail_async_tasks.conf import get_settings
from rail_async_tasks.errors import ConfigurationError
from rail_async_tasks.hosting.exit import chain_signals
from rail_async_tasks.queue_limits import queue_limits
from rail_async_tasks.registry import registry
from rail_async_tasks.workers import foreign

# The rows decide what is tried again, when, and how long it may run.
_OPTIONS: Final[dict[str, Any]] = {
    "max_retries": 0,
    "time_limit": float("inf"),
    "max_age": None,
    "notify_shutdown": False,
}


def declare() -> None:
    """Declare an actor for each queue of the settings and the tasks; for others at the first id."""
    declare_with(actor_of)
    broker = find_broker()
    if broker is not None:
        for queue in queues():
            if is_name(queue):
                actor_of(broker, queue)


def actor_of(broker: dramatiq.Broker, queue: str) -> dramatiq.Actor[Any, None]:
    """Returns the actor that takes ids from a queue; declares it at the first call.

    Raises:
        ValueError: Dramatiq takes no queue of that name.
    """
    name = f"{ACTOR}.{queue}"
    if (known := broker.actors.get(name)) is not None:
        return known
    if not any(isinstance(it, _Hooks) for it in broker.middleware):
        broker.add_middleware(_Hooks())
    options = {key: it for key, it in _OPTIONS.items() if key in broker.actor_options}
    limits = {it.name: it.priority for it in queue_limits(get_settings(), registry)}
    declare: Callable[..., dramatiq.Actor[Any, None]] = dramatiq.actor(
        actor_name=name,
        queue_name=queue,
        priority=-limits.get(queue, 0),  # of what it has fetched, a worker runs the lowest first
        broker=broker,
        **options,
    )
    return declare(execute)


def execute(*arguments: Any, **options: Any) -> None:
    """Run the next attempt of the execution whose id is the argument. In a worker's thread."""
    foreign.run(arguments[0] if len(arguments) == 1 and not options else (arguments, options))


class _Hooks(dramatiq.Middleware):
    """The start and the end of a worker."""

    def before_worker_boot(self, broker: Any, worker: Any) -> None:
        try:
            require_json()
        except ConfigurationError as error:  # Dramatiq only logs other errors
            raise MiddlewareError(str(error)) from error

    def after_worker_boot(self, broker: Any, worker: Any) -> None:
        foreign.start_soon()
        chain_signals(_drain_and_go_on)  # Dramatiq itself looks once a second

    def before_worker_shutdown(self, broker: Any, worker: Any) -> None:
        foreign.begin_to_end()


def _drain_and_go_on(again: bool, go_on: Callable[[], object]) -> None:
    foreign.begin_to_end()
    go_on()
