"""The `dramatiq` backend: Dramatiq's workers run the tasks. The only module that knows Dramatiq.

Each queue has an actor of its own, which takes the id of an execution and nothing else. They are
declared on the broker that the project has set, by `django-dramatiq` or `dramatiq.set_broker`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from django.core.checks import CheckMessage, Error

from rail_async_tasks.backends.broker import ThreadedBrokerBackend
from rail_async_tasks.backends.port import Capabilities
from rail_async_tasks.conf import get_settings
from rail_async_tasks.definition import registry
from rail_async_tasks.errors import ConfigurationError
from rail_async_tasks.hosting.exit import chain_signals
from rail_async_tasks.ledger.records import Dispatch
from rail_async_tasks.queue_limits import queue_limits
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.workers import foreign as pools

try:
    import dramatiq
    from dramatiq.errors import ConnectionClosed
    from dramatiq.middleware import MiddlewareError
except ImportError as error:
    raise ConfigurationError(
        'The backend "dramatiq" needs dramatiq, which cannot be imported. Install it:'
        ' pip install "rail_async_tasks[dramatiq]".'
    ) from error

logger = get_logger("rail_async_tasks.backends")

# That of a queue is named so, a dot, and the queue.
ACTOR: Final = "rail_async_tasks.execute"
# What Dramatiq takes as a queue's name; the last two are names that it gives itself.
_QUEUE: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9._-]*(?<!\.DQ)(?<!\.XQ)")
# The rows say what is tried again, when, and for how long it may run.
_OPTIONS: Final[dict[str, Any]] = {
    "max_retries": 0,
    "time_limit": float("inf"),
    "max_age": None,
    "notify_shutdown": False,
}
# Messages that are looked through for what was lost, at most.
MOST_LOOKED_AT: Final = 5000
# Redis answers within this time (seconds), or it is asked again over a new connection.
_SOCKET_TIMEOUT: Final = 4.0

_NO_BROKER: Final = "No Dramatiq broker is set by the time that Django's apps are ready."
_NO_BROKER_HINT: Final = (
    'Add "django_dramatiq" to INSTALLED_APPS and set DRAMATIQ_BROKER, or call'
    " dramatiq.set_broker(...) in the settings module."
)
_WRONG_ENCODER: Final = "Dramatiq's encoder is {}, and tasks travel as JSON only."
_WRONG_ENCODER_HINT: Final = (
    "Remove DRAMATIQ_ENCODER, or the call of dramatiq.set_encoder: with pickle, whoever can write"
    " to the broker can run code in every worker."
)


class DramatiqBackend(ThreadedBrokerBackend):
    """See `port.Backend` and `docs/backends/dramatiq.md`."""

    name = "dramatiq"
    capabilities = Capabilities(priority=False, queue_concurrency=False)

    def declare(self) -> None:
        broker = _broker()
        if broker is None:  # a worker would serve none of our queues, and not say so
            logger.warning("%s %s", _NO_BROKER, _NO_BROKER_HINT)
            return
        for queue in queues():
            if _QUEUE.fullmatch(queue):
                actor_of(broker, queue)

    def check(self) -> Iterable[CheckMessage]:
        if _broker() is None:
            yield Error(_NO_BROKER, hint=_NO_BROKER_HINT, id="rail_async_tasks.E019")
        if (encoder := _other_encoder()) is not None:
            yield Error(_WRONG_ENCODER.format(encoder), hint=_WRONG_ENCODER_HINT,
                        id="rail_async_tasks.E019")  # fmt: skip
        for queue in queues():
            if not _QUEUE.fullmatch(queue):
                yield Error(
                    f"Dramatiq takes no queue named {queue!r}.",
                    hint="Use letters, digits, dots, dashes and underscores, a letter first.",
                    id="rail_async_tasks.E019",
                )

    def push_here(self, dispatches: Sequence[Dispatch]) -> None:
        broker = _broker()
        if broker is None:
            raise ConfigurationError(f"{_NO_BROKER} {_NO_BROKER_HINT}")
        _require_json()
        for dispatch in dispatches:
            actor_of(broker, dispatch.queue).send(str(dispatch.id))

    async def missing(self, dispatches: Sequence[Dispatch]) -> Sequence[Dispatch]:
        """Those that Redis does not have, at a worker or waiting. Of other brokers: none."""
        return await asyncio.wrap_future(self._threads.submit(not_on_redis, dispatches))


def not_on_redis(dispatches: Sequence[Dispatch]) -> Sequence[Dispatch]:
    """Those of which Redis has no message. It keeps one until a worker is done with it.

    Blocks. Of no other broker, and of a Redis with much in it, anything is said.
    """
    broker = _broker()
    client, namespace = (getattr(broker, name, None) for name in ("client", "namespace"))
    if client is None or namespace is None:
        return ()
    keys = [f"{namespace}:{queue}.msgs" for queue in sorted({it.queue for it in dispatches})]
    if sum(client.hlen(key) for key in keys) > MOST_LOOKED_AT:  # the project's own, it may be
        return ()
    held = b"\n".join(it for key in keys for it in client.hvals(key))
    return [it for it in dispatches if f'"{it.id}"'.encode() not in held]


def queues() -> Iterator[str]:
    """The queues of the settings and of the declared tasks."""
    return (limits.name for limits in queue_limits(get_settings(), registry))


def actor_of(broker: dramatiq.Broker, queue: str) -> dramatiq.Actor[Any, None]:
    """The actor that takes ids from a queue, declared on the broker when it is first asked for.

    Raises:
        ValueError: Dramatiq takes no queue of that name.
    """
    name = f"{ACTOR}.{queue}"
    if (known := broker.actors.get(name)) is not None:
        return known
    if not any(isinstance(it, _Hooks) for it in broker.middleware):
        broker.add_middleware(_Hooks())
        _bound_waits(broker)
    options = {key: it for key, it in _OPTIONS.items() if key in broker.actor_options}
    limits = {it.name: it.priority for it in queue_limits(get_settings(), registry)}
    declare: Callable[..., dramatiq.Actor[Any, None]] = dramatiq.actor(
        actor_name=name,
        queue_name=queue,
        priority=-limits.get(queue, 0),  # of what a worker has fetched, the lowest goes first
        broker=broker,
        **options,
    )
    return declare(execute)


def execute(*arguments: Any, **options: Any) -> None:
    """What a worker's thread runs: the next attempt of the execution whose id is the argument."""
    pools.run(arguments[0] if len(arguments) == 1 and not options else (arguments, options))


class _Hooks(dramatiq.Middleware):
    """What happens in a worker besides."""

    def before_worker_boot(self, broker: Any, worker: Any) -> None:
        try:
            _require_json()
        except ConfigurationError as error:  # of another kind it would be logged, and forgotten
            raise MiddlewareError(str(error)) from error

    def after_worker_boot(self, broker: Any, worker: Any) -> None:
        pools.start_soon()
        chain_signals(_drain_and_go_on)  # Dramatiq looks once a second whether it has been told

    def before_worker_shutdown(self, broker: Any, worker: Any) -> None:
        pools.begin_to_end()


def _drain_and_go_on(again: bool, go_on: Callable[[], object]) -> None:
    pools.begin_to_end()
    go_on()


def _broker() -> dramatiq.Broker | None:
    """The one that is set. Dramatiq's own way to ask makes one up, on this machine."""
    return dramatiq.broker.global_broker


def _other_encoder() -> str | None:
    encoder = dramatiq.get_encoder()
    if isinstance(encoder, dramatiq.JSONEncoder):
        return None
    return type(encoder).__name__


def _require_json() -> None:
    if (encoder := _other_encoder()) is not None:
        raise ConfigurationError(f"{_WRONG_ENCODER.format(encoder)} {_WRONG_ENCODER_HINT}")


def _bound_waits(broker: dramatiq.Broker) -> None:
    """Gives Redis's connections a time limit, where the project has set none."""
    pool = getattr(getattr(broker, "client", None), "connection_pool", None)
    if pool is not None:
        for name in ("socket_timeout", "socket_connect_timeout"):
            if pool.connection_kwargs.get(name) is None:
                pool.connection_kwargs[name] = _SOCKET_TIMEOUT
        scripts: dict[str, Any] = getattr(broker, "scripts", {})
        scripts.update({name: _lost_with_time(script) for name, script in scripts.items()})


def _lost_with_time(script: Callable[..., Any]) -> Callable[..., Any]:
    """For Dramatiq a connection that does not answer is no lost one: it forgets what it asked."""

    def run(*args: Any, **options: Any) -> Any:
        try:
            return script(*args, **options)
        except Exception as error:
            if type(error).__name__ != "TimeoutError":  # redis-py's own, which is no built-in one
                raise
            raise ConnectionClosed(error) from error  # type: ignore[no-untyped-call]

    return run
