"""Django-Q's clusters: their workers take ids, and drain when the cluster is to stop."""

from __future__ import annotations

import mmap
import os
import signal
import threading
import time
from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from django.apps import apps

from rail_async_tasks.backends.django_q import EXECUTE, run_with
from rail_async_tasks.backoff import Backoff
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.text import describe
from rail_async_tasks.workers import foreign

logger = get_logger("rail_async_tasks.backends")

# Seconds between two tries of a cluster to reach a broker that is away.
_PAUSE: Final = 1.0
# Seconds between two looks of a worker whether its cluster is to stop.
_LOOK_INTERVAL: Final = 0.2


def declare() -> None:
    """Hook into Django-Q's workers, if it is installed."""
    run_with(foreign.run)
    if apps.is_installed("django_q"):
        _hook_into_workers()


# 1 once the cluster is to stop. Shared by the cluster's processes, which are forked from the one
# that has imported this. Django-Q itself lets its workers know only when they ask for a next task.
_stopping = mmap.mmap(-1, 1)


def _hook_into_workers() -> None:
    from django_q.cluster import Sentinel
    from django_q.signals import post_execute_in_worker, post_spawn, pre_execute

    post_spawn.connect(_worker_starts, dispatch_uid=EXECUTE)
    pre_execute.connect(foreign.began, dispatch_uid=EXECUTE)
    post_execute_in_worker.connect(foreign.ended, dispatch_uid=EXECUTE)
    if not hasattr(Sentinel.stop, "__wrapped__"):
        Sentinel.stop = _before(Sentinel.stop, _note_the_stop)
        Sentinel.guard = _before(Sentinel.guard, _leave_signals_to_the_parent)
        Sentinel.spawn_pusher = _before(Sentinel.spawn_pusher, _outlast_outages)


def _before(method: Callable[[Any], Any], does: Callable[[Any], None]) -> Callable[[Any], Any]:
    @wraps(method)
    def both(sentinel: Any) -> Any:
        does(sentinel)
        return method(sentinel)

    return both


def _note_the_stop(sentinel: Any) -> None:
    _stopping[0] = 1


def _outlast_outages(sentinel: Any) -> None:
    """Keep the process that reads the broker alive: Django-Q ends it 10 s after a failure."""
    broker = sentinel.broker
    if not isinstance(broker.dequeue, _SteadyDequeue):
        broker.dequeue = _SteadyDequeue(broker.dequeue)


class _SteadyDequeue:
    """A broker's `dequeue` that finds nothing while the broker is away."""

    def __init__(self, dequeue: Callable[[], Any]) -> None:
        self._dequeue = dequeue
        self._backoff = Backoff(
            "The broker of this cluster does not answer", log=logger,
            recovery="The broker of this cluster answers again",
        )  # fmt: skip

    def __call__(self) -> Any:
        try:
            found = self._dequeue()
        except Exception as error:  # noqa: BLE001 (whatever its broker raises)
            self._backoff.failed(describe(error), error)
            time.sleep(_PAUSE)
            return None
        self._backoff.recovered()
        return found


def _leave_signals_to_the_parent(sentinel: Any) -> None:
    # The parent sets an event for the sentinel; it hangs if it is killed while it waits for one.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _worker_starts(**_: Any) -> None:
    """Called in a worker process, before its first task."""
    foreign.begin_child()
    threading.Thread(
        target=_end_with_cluster, args=(os.getppid(),), name="rail-tasks-stop", daemon=True
    ).start()


def _end_with_cluster(sentinel: int) -> None:
    """Wait until the cluster is to stop, then drain."""
    while not _stopping[0]:
        if os.getppid() != sentinel:
            # The sentinel is gone, which would have ended this process after its task.
            os.kill(os.getpid(), signal.SIGTERM)
            return
        time.sleep(_LOOK_INTERVAL)
    foreign.begin_to_end()
