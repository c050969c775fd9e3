"""Celery's workers: they take our ids beside the app's own tasks, and drain as ours do.

A worker serves the queues that the tasks name beside its app's own. The pools prefork, threads and
solo are supported.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import click
from celery import shared_task, signals
from celery.worker import state
from kombu import Connection
from kombu.utils.compat import detect_environment

from rail_async_tasks.backends.celery import (
    BROKER_TIMEOUT,
    TASK,
    connection_options,
    content_problems,
    find_queue,
)
from rail_async_tasks.backends.celery_redis import is_redis
from rail_async_tasks.workers import foreign
from rail_async_tasks.workers.celery_redis import ByPriority, break_silence, priorities

# Between two tries of a worker to reach its broker, in seconds: Celery's first pause. Its last
# pause is 32.
PAUSE: Final = 2
# Settings of the worker's app where the project has set none. With Celery's own, four messages for
# each process wait in the worker, though another is idle, and are lost for a minute if the worker
# is killed; and after 100 tries to reach the broker the worker exits.
_WORKER_SETTINGS: Final = {"worker_prefetch_multiplier": 1, "broker_connection_max_retries": None}


# Acknowledged early: an execution that is lost with a worker is found by its lease, or the ledger
# sends it again; a late acknowledgement would only bring it twice, on Redis after an hour.
@shared_task(  # type: ignore[untyped-decorator]
    name=TASK, serializer="json", acks_late=False, ignore_result=True, track_started=False,
    store_errors_even_if_ignored=False, typing=False, max_retries=0,
)  # fmt: skip
def execute(*arguments: Any, **named: Any) -> None:
    """Run the next attempt of the execution whose id is the one argument."""
    foreign.run(arguments[0] if len(arguments) == 1 and not named else (arguments, named))


def declare() -> None:
    """Hook into the workers of every Celery app in this process."""
    # The app's own module may be the one that is setting up Django: it is not needed here.
    signals.celeryd_init.connect(_prepare_worker, dispatch_uid=TASK)
    signals.worker_init.connect(_check_worker, dispatch_uid=TASK)
    signals.worker_process_init.connect(_begin_process, dispatch_uid=TASK)
    signals.worker_ready.connect(_begin_worker, dispatch_uid=TASK)
    signals.worker_shutting_down.connect(_begin_to_end, dispatch_uid=TASK)
    for over in (signals.worker_shutdown, signals.worker_process_shutdown):
        over.connect(_end, dispatch_uid=TASK)
    signals.task_prerun.connect(foreign.began, dispatch_uid=TASK)
    signals.task_prerun.connect(_wake_worker, dispatch_uid=f"{TASK}.wake")
    signals.task_postrun.connect(foreign.ended, dispatch_uid=TASK)


# --- its start -----------------------------------------------------------------------------------


class _PersistentConnection(Connection):  # type: ignore[misc]
    """Waits equally long between all tries to reach a broker that is away."""

    def ensure_connection(self, *args: Any, **options: Any) -> Any:
        options = {"interval_start": PAUSE, "interval_max": 0, **options}  # beyond the first
        return super().ensure_connection(*args, **options)


_worker: Any = None
_worker_pid: int | None = None


def _prepare_worker(instance: Any, conf: Any, **_: Any) -> None:
    """Called before a worker chooses its queues, so that its flags choose among ours too."""
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
        conf.broker_transport_options = {**order, **connection_options(app)}
    app.amqp.Connection = _PersistentConnection
    for queue in sorted(priorities(), key=priorities().__getitem__, reverse=True):
        find_queue(app, queue)


def _check_worker(sender: Any, **_: Any) -> None:
    global _worker
    _worker = sender
    # By then the command has read the app's settings as they were before `_prepare_worker`.
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
    if os.getpid() != _worker_pid:  # the pool solo sends this signal in the worker itself
        foreign.begin_child()


def _begin_worker(sender: Any, **_: Any) -> None:
    """Called at the worker's start, and again when it has found its broker again."""
    global _listening, _doorbell
    if not _forks():
        foreign.start_soon()
    _hurry_first(signal.SIGQUIT)
    hub = getattr(sender, "hub", None)
    if hub is not None and hub is not _listening:
        _listening = hub
        hub.call_repeatedly(BROKER_TIMEOUT / 2, break_silence, sender, BROKER_TIMEOUT)
        if not _forks():
            _doorbell = Doorbell(hub)


_listening: Any = None


class Doorbell:
    """Wakes a worker's loop.

    A thread of its pool that takes a task makes room for the next one. The loop waits for the
    broker alone, and would notice the room a good while later.
    """

    def __init__(self, hub: Any) -> None:
        self._inside, self._outside = os.pipe()
        for end in (self._inside, self._outside):
            os.set_blocking(end, False)
        hub.add_reader(self._inside, self._answer)

    def ring(self) -> None:
        """Wake the loop. From any thread."""
        with contextlib.suppress(BlockingIOError):  # it has been rung often enough
            os.write(self._outside, b".")

    def _answer(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._inside, 4096)


_doorbell: Doorbell | None = None


def _wake_worker(**_: Any) -> None:
    if _doorbell is not None and os.getpid() == _worker_pid:
        _doorbell.ring()


# --- its end -------------------------------------------------------------------------------------


def _begin_to_end(how: str = "Warm", **_: Any) -> None:
    """Called in the handler of the signal that ends the worker."""
    _hurry_first(signal.SIGINT)  # another Ctrl-C is from a person who does not want to wait
    _drain(hurry=how == "Cold")


def _forks() -> bool:
    pids = _worker.pool.info.get("processes", ()) if _worker and _worker.pool else ()
    return any(pid != os.getpid() for pid in pids)


def _drain(*, hurry: bool) -> None:
    if not _forks():
        foreign.begin_to_end(hurry=hurry)
        return
    signalled = _signal_children(set(), hurry=hurry)
    threading.Thread(
        target=_signal_others, args=(signalled, hurry), name="rail-tasks-end", daemon=True
    ).start()


def _signal_children(signalled: set[int], *, hurry: bool) -> set[int]:
    """Signal the processes that run a task of ours, each once; Celery waits for all the others.

    Returns the pids of all that were signalled so far.
    """
    for request in list(state.active_requests):
        pid = request.worker_pid
        if request.name == TASK and pid and pid not in signalled:
            signalled.add(pid)
            foreign.end_child(pid, hurry=hurry)
    return signalled


def _signal_others(signalled: set[int], hurry: bool) -> None:
    """Signal also processes of which the worker learns later that they have taken a task."""
    while True:
        time.sleep(foreign.STEP)
        with contextlib.suppress(RuntimeError):  # the requests change meanwhile
            _signal_children(signalled, hurry=hurry)


def _hurry_first(number: signal.Signals) -> None:
    """Have tasks handed back before Celery ends a worker without waiting for them."""
    previous = signal.getsignal(number)
    if not callable(previous) or threading.current_thread() is not threading.main_thread():
        return
    if getattr(previous, "hurries", False):
        return

    def handle(*received: Any, previous: Callable[..., object] = previous) -> None:
        _drain(hurry=True)
        previous(*received)

    handle.hurries = True  # type: ignore[attr-defined]
    signal.signal(number, handle)


def _end(**_: Any) -> None:
    foreign.stop()
