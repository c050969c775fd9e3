"""The `dramatiq` backend: sends ids to the actors of our queues, in Dramatiq's workers.

The broker is the one that the project has set, by `django-dramatiq` or `dramatiq.set_broker`.
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
from rail_async_tasks.errors import ConfigurationError
from rail_async_tasks.ledger.dispatch_records import Dispatch
from rail_async_tasks.queue_limits import queue_limits
from rail_async_tasks.registry import registry
from rail_async_tasks.safe_logging import get_logger

try:
    import dramatiq
    from dramatiq.errors import ConnectionClosed
except ImportError as error:
    raise ConfigurationError(
        'The backend "dramatiq" needs dramatiq, which cannot be imported. Install it:'
        ' pip install "rail_async_tasks[dramatiq]".'
    ) from error

logger = get_logger("rail_async_tasks.backends")

# The name of a queue's actor begins so; a dot and the queue follow.
ACTOR: Final = "rail_async_tasks.execute"
# Names that Dramatiq takes for queues; it gives names with the last two endings itself.
_QUEUE: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9._-]*(?<!\.DQ)(?<!\.XQ)")
# The most messages that are searched for what was lost.
MOST_LOOKED_AT: Final = 5000
# A Redis that does not answer within this time (seconds) is asked again over a new connection.
_SOCKET_TIMEOUT: Final = 4.0

_NO_BROKER: Final = "No Dramatiq broker is set by the time that Django's apps are ready."
_NO_BROKER_HINT: Final = (
    'Add "django_dramatiq" to INSTALLED_APPS and set DRAMATIQ_BROKER, or call'
    " dramatiq.set_broker(...) in the settings module."
)
_WRONG_ENCODER: Final = "Dramatiq's encoder is {}, and tasks travel as JSON only."
_WRONG_ENCODER_HINT: Final = (
    "Remove DRAMATIQ_ENCODER, or the call of dramatiq.set_encoder: with pickle, anyone with"
    " access to the broker can run code in every worker."
)


class DramatiqBackend(ThreadedBrokerBackend):
    """See `port.Backend` and `docs/backends/dramatiq.md`."""

    name = "dramatiq"
    broker_setting = "DRAMATIQ_BROKER, or in the broker that dramatiq.set_broker() was given"
    worker_command = "manage.py rundramatiq"
    capabilities = Capabilities(priority=False, queue_concurrency=False)

    def declare(self) -> None:
        broker = find_broker()
        if broker is None:  # a worker would serve none of our queues, and log nothing
            logger.warning("%s %s", _NO_BROKER, _NO_BROKER_HINT)
        else:
            bound_waits(broker)

    def check(self) -> Iterable[CheckMessage]:
        if find_broker() is None:
            yield Error(_NO_BROKER, hint=_NO_BROKER_HINT, id="rail_async_tasks.E019")
        if (encoder := _other_encoder()) is not None:
            yield Error(_WRONG_ENCODER.format(encoder), hint=_WRONG_ENCODER_HINT,
                        id="rail_async_tasks.E019")  # fmt: skip
        for queue in queues():
            if not is_name(queue):
                yield Error(
                    f"Dramatiq takes no queue named {queue!r}.",
                    hint="Use letters, digits, dots, dashes and underscores, a letter first.",
                    id="rail_async_tasks.E019",
                )

    def push_here(self, dispatches: Sequence[Dispatch]) -> None:
        broker = find_broker()
        if broker is None:
            raise ConfigurationError(f"{_NO_BROKER} {_NO_BROKER_HINT}")
        require_json()
        bound_waits(broker)
        for dispatch in dispatches:
            send(broker, dispatch)

    async def missing(self, dispatches: Sequence[Dispatch]) -> Sequence[Dispatch]:
        """Returns the dispatches that a Redis has neither waiting nor at a worker."""
        return await asyncio.wrap_future(self._threads.submit(not_on_redis, dispatches))


def not_on_redis(dispatches: Sequence[Dispatch]) -> Sequence[Dispatch]:
    """Returns the dispatches of which Redis has no message. It keeps one until a worker is done.

    Returns () for other brokers, and where more than `MOST_LOOKED_AT` messages wait. Blocks.
    """
    broker = find_broker()
    client, namespace = (getattr(broker, name, None) for name in ("client", "namespace"))
    if client is None or namespace is None:
        return ()
    keys = [f"{namespace}:{queue}.msgs" for queue in sorted({it.queue for it in dispatches})]
    if sum(client.hlen(key) for key in keys) > MOST_LOOKED_AT:  # perhaps the project's own
        return ()
    held = b"\n".join(it for key in keys for it in client.hvals(key))
    return [it for it in dispatches if f'"{it.id}"'.encode() not in held]


def queues() -> Iterator[str]:
    """Returns the queues of the settings and of the declared tasks."""
    return (limits.name for limits in queue_limits(get_settings(), registry))


def is_name(queue: str) -> bool:
    """Returns whether Dramatiq takes a queue of that name."""
    return _QUEUE.fullmatch(queue) is not None


def _declare_queue(broker: dramatiq.Broker, queue: str) -> None:
    broker.declare_queue(queue)


# Prepares a queue for an id.
_declare: Callable[[dramatiq.Broker, str], object] = _declare_queue


def declare_with(declare: Callable[[dramatiq.Broker, str], object]) -> None:
    """Has `send` declare each queue by this function. For the worker's side.

    A worker takes messages from every queue that its broker declares. So the queue needs its actor
    too, also where the settings and tasks do not name the queue any more.
    """
    global _declare
    _declare = declare


def send(broker: dramatiq.Broker, dispatch: Dispatch) -> None:
    """Send one id to the actor of its queue.

    Raises:
        ValueError: Dramatiq takes no queue of that name.
    """
    queue = dispatch.queue
    if not is_name(queue):
        raise ValueError(f"Dramatiq takes no queue named {queue!r}.")
    _declare(broker, queue)
    broker.enqueue(
        dramatiq.Message(
            queue_name=queue, actor_name=f"{ACTOR}.{queue}", args=(str(dispatch.id),),
            kwargs={}, options={},
        )
    )  # fmt: skip


def find_broker() -> dramatiq.Broker | None:
    """Returns the broker that is set. Dramatiq's `get_broker` would make one, on this machine."""
    return dramatiq.broker.global_broker


def _other_encoder() -> str | None:
    encoder = dramatiq.get_encoder()
    if isinstance(encoder, dramatiq.JSONEncoder):
        return None
    return type(encoder).__name__


def require_json() -> None:
    """Raises ConfigurationError if messages are not encoded as JSON: a pickle can run code."""
    if (encoder := _other_encoder()) is not None:
        raise ConfigurationError(f"{_WRONG_ENCODER.format(encoder)} {_WRONG_ENCODER_HINT}")


def bound_waits(broker: dramatiq.Broker) -> None:
    """Give connections to Redis a timeout, where the project has set none. Once per broker."""
    if hasattr(broker, "rail_async_tasks"):
        return
    broker.rail_async_tasks = True  # type: ignore[attr-defined]
    pool = getattr(getattr(broker, "client", None), "connection_pool", None)
    if pool is not None:
        for name in ("socket_timeout", "socket_connect_timeout"):
            if pool.connection_kwargs.get(name) is None:
                pool.connection_kwargs[name] = _SOCKET_TIMEOUT
        scripts: dict[str, Any] = getattr(broker, "scripts", {})
        scripts.update({name: _lost_with_time(script) for name, script in scripts.items()})


def _lost_with_time(script: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the script with timeouts raised as `ConnectionClosed`.

    Dramatiq does not take a timeout for a lost connection, and forgets what it has asked for.
    """

    def run(*args: Any, **options: Any) -> Any:
        try:
            return script(*args, **options)
        except Exception as error:
            if type(error).__name__ != "TimeoutError":  # redis-py's own, which is no built-in one
                raise
            raise ConnectionClosed(error) from error  # type: ignore[no-untyped-call]

    return run
