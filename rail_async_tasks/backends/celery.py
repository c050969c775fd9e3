"""The Celery backend: Celery carries the ids, and its workers run the attempts.

The only module that knows Celery. A worker serves the queues that the tasks name beside its app's
own; the pools prefork, threads and solo are supported.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from django.core.checks import CheckMessage, Error, Warning

from rail_async_tasks.backends.broker import ThreadedBrokerBackend
from rail_async_tasks.backends.port import Capabilities
from rail_async_tasks.conf import get_settings, import_from_setting
from rail_async_tasks.errors import ConfigurationError
from rail_async_tasks.ledger.records import Dispatch
from rail_async_tasks.workers import foreign as pools

try:
    import click
    from celery import shared_task, signals
    from celery.worker import state
    from kombu import Connection, Queue
    from kombu.serialization import prepare_accept_content
    from kombu.utils.compat import detect_environment

    from rail_async_tasks.backends.celery_redis import (
        ByPriority,
        break_silence,
        is_redis,
        not_on_redis,
        priorities,
    )
except ImportError as error:
    raise ConfigurationError(
        'task_settings["backend"]: "celery" needs Celery, which cannot be imported. Install it:'
        ' pip install "rail_async_tasks[celery]".'
    ) from error

# What a message names; its one argument is an execution's id.
TASK: Final = "rail_async_tasks.execute"
# A broker that does not answer within this time (seconds) is taken for dead.
PATIENCE: Final = 3
# Between two tries of a worker to reach it, in seconds: Celery's first pause. Its last is 32.
PAUSE: Final = 2
# By the kind of the broker: options of its connection, where the project sets no others. The
# clients' own defaults wait for ever.
_CONNECTION_OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "redis": {
        "socket_timeout": PATIENCE,
        "socket_connect_timeout": PATIENCE,
        "socket_keepalive": True,
        "health_check_interval": PATIENCE,
    },
    "amqp": {"read_timeout": PATIENCE, "write_timeout": PATIENCE},
}
# What a worker sets in its app where the project has not. Celery's own: four messages for each
# process wait in the worker, though another is idle, and are lost for a minute if it is killed; and
# after 100 tries to reach the broker the worker exits.
_WORKER_SETTINGS: Final = {"worker_prefetch_multiplier": 1, "broker_connection_max_retries": None}

# To read these runs code that the message brings, or makes objects that it names.
_UNSAFE: Final = frozenset({"application/x-python-serialize", "application/x-yaml"})
_JSON: Final = "application/json"


# An early acknowledgement: what is lost with a worker is found by its lease, or sent again by the
# ledger, and a late one would only bring it twice, on Redis after an hour.
@shared_task(  # type: ignore[untyped-decorator]
    name=TASK, serializer="json", acks_late=False, ignore_result=True, track_started=False,
    store_errors_even_if_ignored=False, typing=False, max_retries=0,
)  # fmt: skip
def execute(*arguments: Any, **named: Any) -> None:
    """Runs the next attempt of the execution whose id is the one argument."""
    pools.run(arguments[0] if len(arguments) == 1 and not named else (arguments, named))


class CeleryBackend(ThreadedBrokerBackend):
    """Sends ids through the app that the setting `celery_app` names."""

    name = "celery"
    capabilities = Capabilities(priority=False, queue_concurrency=False)

    def __init__(self) -> None:
        super().__init__()
        self._connection: Any = None
        self._producer: Any = None

    def declare(self) -> None:
        # The app's own module may be the one that is setting up Django: it is not needed here.
        signals.celeryd_init.connect(_prepare_worker, dispatch_uid=TASK)
        signals.worker_init.connect(_check_worker, dispatch_uid=TASK)
        signals.worker_process_init.connect(_begin_process, dispatch_uid=TASK)
        signals.worker_ready.connect(_begin_worker, dispatch_uid=TASK)
        signals.worker_shutting_down.connect(_begin_to_end, dispatch_uid=TASK)
        for over in (signals.worker_shutdown, signals.worker_process_shutdown):
            over.connect(_end, dispatch_uid=TASK)
        signals.task_prerun.connect(pools.began, dispatch_uid=TASK)
        signals.task_prerun.connect(_wake_worker, dispatch_uid=f"{TASK}.wake")
        signals.task_postrun.connect(pools.ended, dispatch_uid=TASK)

    def check(self) -> Iterable[CheckMessage]:
        try:
            app = find_app()
        except ConfigurationError:  # E008 and E013 say so
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
        """Those that Redis does not have, at a worker or waiting. Of other brokers: none."""
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
            connect_timeout=PATIENCE, transport_options=_connection_options(app)
        )
        self._connection.connect()
        self._producer = app.amqp.Producer(self._connection.channel(), auto_declare=False)

    def _disconnect(self) -> None:
        connection, self._connection, self._producer = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(Exception):  # the broker may be gone
                connection.release()


def find_app() -> Any:
    """The Celery app of the setting `celery_app`.

    Raises:
        ConfigurationError: it is not set, or can't be imported.
    """
    path = get_settings().celery_app
    if path is None:
        raise ConfigurationError('task_settings["backend"]: "celery" needs celery_app.')
    return import_from_setting(path, "celery_app")


def send(app: Any, producer: Any, dispatch: Dispatch) -> None:
    """Sends one id, past the app's routes, and past what would run it in this process."""
    message = app.amqp.create_task_message(
        message_id(dispatch), TASK, (str(dispatch.id),), {},
        ignore_result=True, create_sent_event=app.conf.task_send_sent_event,
    )  # fmt: skip
    app.amqp.send_task_message(
        producer, TASK, message, queue=find_queue(app, dispatch.queue), serializer="json",
        retry=False,
    )  # fmt: skip


def message_id(dispatch: Dispatch) -> str:
    """What Celery knows that dispatch by."""
    # Each dispatch is a message of its own to Celery: one that was revoked there, or that runs
    # twice, has no effect on the next.
    return f"{dispatch.id}-{dispatch.number}"


_declaring = threading.Lock()


def find_queue(app: Any, name: str) -> Queue:
    """The app's queue of that name; one that it does not have is made as the app makes others."""
    queues = app.amqp.queues
    with _declaring:
        if name not in queues:
            queues.select_add(queues.new_missing(name))
        return queues[name]


def _connection_options(app: Any) -> dict[str, Any]:
    kind = app.connection_for_write().transport.driver_type
    return {**_CONNECTION_OPTIONS.get(kind, {}), **app.conf.broker_transport_options}


# --- what is wrong with an app -------------------------------------------------------------------


def content_problems(accept_content: Iterable[str]) -> list[str]:
    """What is wrong with the formats that an app's workers read, in words."""
    accepted = prepare_accept_content(accept_content)
    found = [
        f"The Celery app's workers read {name}: whoever can write to the broker runs code in them."
        for name in sorted(accepted & _UNSAFE)
    ]
    if _JSON not in accepted:
        found.append("The Celery app's workers do not read JSON, by which tasks are sent.")
    return found


def _without_effect(conf: Any) -> Iterable[CheckMessage]:
    """What an app asks of all its tasks and these do not do, or not well."""
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


# --- in a worker ---------------------------------------------------------------------------------


class _PersistentConnection(Connection):  # type: ignore[misc]
    """Does not wait ever longer for a broker that is away."""

    def ensure_connection(self, *args: Any, **options: Any) -> Any:
        options = {"interval_start": PAUSE, "interval_max": 0, **options}  # beyond the first
        return super().ensure_connection(*args, **options)


_worker: Any = None
_worker_pid: int | None = None


def _prepare_worker(instance: Any, conf: Any, **_: Any) -> None:
    """Before a worker chooses its queues, so that its own flags choose among ours too."""
    global _worker_pid
    _worker_pid = os.getpid()
    problems = content_problems(conf.accept_content)
    if problems:  # raised past Celery, which only logs what its signals raise
        raise SystemExit("\n".join([*problems, "The worker does not start."]))
    app = instance.app
    given = conf.without_defaults()
    for name, value in _WORKER_SETTINGS.items():
        if name not in given:
            conf[name] = value
    if is_redis(app.connection_for_read()):
        order = {"queue_order_strategy": f"{ByPriority.__module__}:{ByPriority.__name__}"}
        conf.broker_transport_options = {**order, **_connection_options(app)}
    app.amqp.Connection = _PersistentConnection
    for queue in sorted(priorities(), key=priorities().__getitem__, reverse=True):
        find_queue(app, queue)


def _check_worker(sender: Any, **_: Any) -> None:
    global _worker
    _worker = sender
    # By then the command has taken what Celery's app said before it was prepared.
    context = click.get_current_context(silent=True)
    source = context and context.get_parameter_source("prefetch_multiplier")
    if source is click.core.ParameterSource.DEFAULT:
        sender.prefetch_multiplier = sender.app.conf.worker_prefetch_multiplier
    pool = sender.pool_cls if isinstance(sender.pool_cls, str) else sender.pool_cls.__module__
    if detect_environment() != "default" or pool.rpartition(".")[2] in ("gevent", "eventlet"):
        raise SystemExit(
            "Tasks of rail_async_tasks do not run in the pools gevent and eventlet, which replace"
            " the threads that their event loop lives in. Start the worker with --pool=threads for"
            " many tasks at once, or with --pool=prefork."
        )


def _begin_process(**_: Any) -> None:
    if os.getpid() != _worker_pid:  # the pool solo says this in the worker itself
        pools.begin_child()


def _begin_worker(sender: Any, **_: Any) -> None:
    """At its start, and again when it has found its broker again."""
    global _listening, _doorbell
    if not _forks():
        pools.start_soon()
    _hurry_first(signal.SIGQUIT)
    hub = getattr(sender, "hub", None)
    if hub is not None and hub is not _listening:
        _listening = hub
        hub.call_repeatedly(PATIENCE / 2, break_silence, sender, PATIENCE)
        if not _forks():
            _doorbell = Doorbell(hub)


_listening: Any = None


class Doorbell:
    """Wakes a worker's loop. A thread of its pool that takes a task makes room for the next, and
    the loop, which waits for the broker alone, would find that out a good while later.
    """

    def __init__(self, hub: Any) -> None:
        self._inside, self._outside = os.pipe()
        for end in (self._inside, self._outside):
            os.set_blocking(end, False)
        hub.add_reader(self._inside, self._answer)

    def ring(self) -> None:
        """From any thread."""
        with contextlib.suppress(BlockingIOError):  # it has been rung often enough
            os.write(self._outside, b".")

    def _answer(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._inside, 4096)


_doorbell: Doorbell | None = None


def _wake_worker(**_: Any) -> None:
    if _doorbell is not None and os.getpid() == _worker_pid:
        _doorbell.ring()


def _begin_to_end(how: str = "Warm", **_: Any) -> None:
    """In the handler of the signal."""
    _hurry_first(signal.SIGINT)  # of whoever does not want to wait any longer
    _tell(hurry=how == "Cold")


def _forks() -> bool:
    pids = _worker.pool.info.get("processes", ()) if _worker and _worker.pool else ()
    return any(pid != os.getpid() for pid in pids)


def _tell(*, hurry: bool) -> None:
    if not _forks():
        pools.begin_to_end(hurry=hurry)
        return
    told = _tell_children(set(), hurry=hurry)
    threading.Thread(
        target=_tell_others, args=(told, hurry), name="rail-tasks-end", daemon=True
    ).start()


def _tell_children(told: set[int], *, hurry: bool) -> set[int]:
    """Those that run a task of ours and are not told yet; Celery waits for all the others."""
    for request in list(state.active_requests):
        pid = request.worker_pid
        if request.name == TASK and pid and pid not in told:
            told.add(pid)
            pools.tell_child(pid, hurry=hurry)
    return told


def _tell_others(told: set[int], hurry: bool) -> None:
    """Those of which the worker hears later that they have taken a task. Until it ends."""
    while True:
        time.sleep(pools.STEP)
        with contextlib.suppress(RuntimeError):  # they change meanwhile
            _tell_children(told, hurry=hurry)


def _hurry_first(number: signal.Signals) -> None:
    """Has tasks handed back before Celery ends a worker that is told not to wait for them."""
    previous = signal.getsignal(number)
    if not callable(previous) or threading.current_thread() is not threading.main_thread():
        return
    if getattr(previous, "hurries", False):
        return

    def handle(*received: Any, previous: Callable[..., object] = previous) -> None:
        _tell(hurry=True)
        previous(*received)

    handle.hurries = True  # type: ignore[attr-defined]
    signal.signal(number, handle)


def _end(**_: Any) -> None:
    pools.stop()
