"""The Celery backend: Celery carries the ids, and its workers run the attempts.

Messages go past the app's own routes, over a connection whose waits are bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterable, Sequence
from typing import Any, Final

from django.core.checks import CheckMessage, Error, Warning

from rail_async_tasks.backends.broker import ThreadedBrokerBackend
from rail_async_tasks.backends.port import Capabilities
from rail_async_tasks.conf import get_settings, import_from_setting
from rail_async_tasks.errors import ConfigurationError
from rail_async_tasks.ledger.dispatch_records import Dispatch

try:
    import celery  # noqa: F401 - the project's app comes from it
    from kombu import Queue
    from kombu.serialization import prepare_accept_content

    from rail_async_tasks.backends.celery_redis import not_on_redis
except ImportError as error:
    raise ConfigurationError(
        'task_settings["backend"]: "celery" needs Celery, which cannot be imported. Install it:'
        ' pip install "rail_async_tasks[celery]".'
    ) from error

# The task that a message names; its one argument is an execution's id.
TASK: Final = "rail_async_tasks.execute"
# A broker that does not answer within this time (seconds) is taken for dead.
BROKER_TIMEOUT: Final = 3
# By the kind of the broker: options of its connection, where the project sets no others. The
# clients' own defaults wait for ever.
_CONNECTION_OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "redis": {
        "socket_timeout": BROKER_TIMEOUT,
        "socket_connect_timeout": BROKER_TIMEOUT,
        "socket_keepalive": True,
        "health_check_interval": BROKER_TIMEOUT,
    },
    "amqp": {"read_timeout": BROKER_TIMEOUT, "write_timeout": BROKER_TIMEOUT},
}

# Formats that run code from the message when they are read, or make objects that it names.
_UNSAFE: Final = frozenset({"application/x-python-serialize", "application/x-yaml"})
_JSON: Final = "application/json"


class CeleryBackend(ThreadedBrokerBackend):
    """Sends ids through the app that the setting `celery_app` names."""

    name = "celery"
    broker_setting = 'broker_url of the Celery app that task_settings["celery_app"] names'
    worker_command = "celery -A PROJECT worker --pool=threads"
    capabilities = Capabilities(priority=False, queue_concurrency=False)

    def __init__(self) -> None:
        super().__init__()
        self._connection: Any = None
        self._producer: Any = None

    def check(self) -> Iterable[CheckMessage]:
        try:
            app = find_app()
        except ConfigurationError:  # E008 and E013 report it
            return
        for problem in content_problems(app.conf.accept_content):
            hint = 'Set accept_content = ["json"] in the Celery app, which is its default.'
            yield Error(problem, hint=hint, id="rail_async_tasks.E019")
        yield from _without_effect(app.conf)

    def push_here(self, dispatches: Sequence[Dispatch]) -> None:
        app = find_app()
        try:
            if self._producer is None:
                self._connect(app)
            for dispatch in dispatches:
                send(app, self._producer, dispatch)
        except Exception:
            self._disconnect()
            raise

    async def missing(self, dispatches: Sequence[Dispatch]) -> Sequence[Dispatch]:
        """Returns the dispatches that a Redis has neither waiting nor at a worker."""
        return await asyncio.wrap_future(self._threads.submit(self._missing_here, dispatches))

    def _missing_here(self, dispatches: Sequence[Dispatch]) -> Sequence[Dispatch]:
        app = find_app()
        try:
            if self._producer is None:
                self._connect(app)
            return not_on_redis(self._producer.channel, dispatches, message_id)
        except Exception:
            self._disconnect()
            raise

    def disconnect_here(self) -> None:
        self._disconnect()

    def _connect(self, app: Any) -> None:
        # Not of the app's pool: its connections may wait for ever.
        self._connection = app.connection_for_write(
            connect_timeout=BROKER_TIMEOUT, transport_options=connection_options(app)
        )
        self._connection.connect()
        self._producer = app.amqp.Producer(self._connection.channel(), auto_declare=False)

    def _disconnect(self) -> None:
        connection, self._connection, self._producer = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(Exception):  # the broker may be gone
                connection.release()


def find_app() -> Any:
    """Returns the Celery app of the setting `celery_app`.

    Raises:
        ConfigurationError: it is not set, or can't be imported.
    """
    path = get_settings().celery_app
    if path is None:
        raise ConfigurationError('task_settings["backend"]: "celery" needs celery_app.')
    return import_from_setting(path, "celery_app")


def send(app: Any, producer: Any, dispatch: Dispatch) -> None:
    """Send one id, past the app's routes, and past settings that would run it in this process."""
    message = app.amqp.create_task_message(
        message_id(dispatch), TASK, (str(dispatch.id),), {},
        ignore_result=True, create_sent_event=app.conf.task_send_sent_event,
    )  # fmt: skip
    app.amqp.send_task_message(
        producer, TASK, message, queue=find_queue(app, dispatch.queue), serializer="json",
        retry=False,
    )  # fmt: skip


def message_id(dispatch: Dispatch) -> str:
    """Returns the message's id at Celery."""
    # Each dispatch is a message of its own to Celery: one that was revoked there, or that runs
    # twice, has no effect on the next.
    return f"{dispatch.id}-{dispatch.number}"


_declaring = threading.Lock()


def find_queue(app: Any, name: str) -> Queue:
    """Returns the app's queue of that name; makes one, as the app makes others, if it has none."""
    queues = app.amqp.queues
    with _declaring:
        if name not in queues:
            queues.select_add(queues.new_missing(name))
        return queues[name]


def connection_options(app: Any) -> dict[str, Any]:
    """Returns the options of the app's connections, with timeouts where the project has none."""
    kind = app.connection_for_write().transport.driver_type
    return {**_CONNECTION_OPTIONS.get(kind, {}), **app.conf.broker_transport_options}


# --- checks of an app ----------------------------------------------------------------------------


def content_problems(accept_content: Iterable[str]) -> list[str]:
    """Returns messages about the formats that an app's workers read."""
    accepted = prepare_accept_content(accept_content)
    found = [
        f"The Celery app's workers read {name}: anyone with access to the broker runs code in them."
        for name in sorted(accepted & _UNSAFE)
    ]
    if _JSON not in accepted:
        found.append("The Celery app's workers do not read JSON, by which tasks are sent.")
    return found


def _without_effect(conf: Any) -> Iterable[CheckMessage]:
    """Warns of the app's settings that have no effect on our tasks, or a bad one."""
    if conf.task_always_eager:
        message = "The Celery app's task_always_eager has no effect on tasks of rail_async_tasks."
        hint = 'For tests set task_settings["backend"] to "sync".'
        yield Warning(message, hint=hint, id="rail_async_tasks.W008")
    if conf.task_time_limit or conf.task_soft_time_limit:
        message = (
            "The Celery app has a time limit for all tasks: a worker's process that passes it is"
            " killed, and what it runs counts as lost in a crash."
        )
        hint = 'Set a time_limit on the tasks that need it, and task_settings["timeout"] for ours.'
        yield Warning(message, hint=hint, id="rail_async_tasks.W008")
