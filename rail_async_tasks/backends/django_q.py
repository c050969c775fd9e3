"""The `django_q` backend: Django-Q's clusters run the tasks. The only module that knows Django-Q.

A package names `execute` and the id of an execution. All queues travel in the project's cluster,
but for those that are named like one of its `ALT_CLUSTERS`.
"""

from __future__ import annotations

import mmap
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import wraps
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from django.apps import apps
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Warning
from django.db import close_old_connections, transaction

from rail_async_tasks.backends.broker import ThreadedBrokerBackend
from rail_async_tasks.backoff import Backoff
from rail_async_tasks.conf import get_settings
from rail_async_tasks.definition import registry
from rail_async_tasks.errors import ConfigurationError
from rail_async_tasks.ledger.records import Dispatch
from rail_async_tasks.queue_limits import queue_limits
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.text import describe
from rail_async_tasks.workers import foreign as pools

try:
    import django_q  # noqa: F401 - its other modules need apps that are ready
except ImportError as error:
    raise ConfigurationError(
        'The backend "django_q" needs django-q2, which cannot be imported. Install it:'
        ' pip install "rail_async_tasks[django-q]".'
    ) from error

logger = get_logger("rail_async_tasks.backends")

PATH: Final = f"{__name__}.execute"
# What Django-Q would do about a failure or a long run, the rows do.
_OPTIONS: Final[dict[str, Any]] = {
    "timeout": -1,
    "ack_failure": True,
    "save": False,
    "cached": False,
    "sync": False,
}
# Redis answers within this time (seconds), or it is asked again over a new connection.
_SOCKET_TIMEOUT: Final = 4
# A cluster asks a broker that is away again after so long (seconds).
_PAUSE: Final = 1.0
# A worker sees within this time (seconds) that its cluster is told to stop.
_LOOK_INTERVAL: Final = 0.2

_NOT_INSTALLED: Final = '"django_q" is not in INSTALLED_APPS.'
_NOT_INSTALLED_HINT: Final = 'Add it: INSTALLED_APPS = [..., "django_q", "rail_async_tasks"].'


class DjangoQBackend(ThreadedBrokerBackend):
    """See `port.Backend` and `docs/backends/django-q.md`."""

    name = "django_q"

    def __init__(self) -> None:
        super().__init__()
        self._brokers: dict[tuple[int, str], Any] = {}  # by process and cluster

    def declare(self) -> None:
        if apps.is_installed("django_q"):
            _bound_waits()
            _look_after_workers()

    def check(self) -> Iterable[CheckMessage]:
        if not apps.is_installed("django_q"):
            yield Error(_NOT_INSTALLED, hint=_NOT_INSTALLED_HINT, id="rail_async_tasks.E019")
        if _q_cluster().get("sync"):
            yield Error(
                'Q_CLUSTER["sync"] runs tasks where they are enqueued, and workers nothing.',
                hint='Remove it; for tests there is task_settings["backend"] = "sync".',
                id="rail_async_tasks.E019",
            )
        yield from _without_precedence()

    def push_here(self, dispatches: Sequence[Dispatch]) -> None:
        if not apps.is_installed("django_q"):
            raise ConfigurationError(f"{_NOT_INSTALLED} {_NOT_INSTALLED_HINT}")
        from django_q.conf import Conf
        from django_q.tasks import async_task

        def push() -> None:
            for dispatch in dispatches:
                async_task(
                    PATH,
                    str(dispatch.id),
                    task_name=str(dispatch.id),
                    broker=self._broker(cluster_of(dispatch.queue)),
                    **_OPTIONS,
                )

        if not Conf.ORM:
            push()
            return
        close_old_connections()
        with transaction.atomic(using=Conf.ORM):  # one commit for all of them
            push()

    def disconnect_here(self) -> None:
        brokers, self._brokers = self._brokers, {}
        for broker in brokers.values():
            if hasattr(broker.connection, "close"):  # Redis; the ORM has the thread's own
                broker.connection.close()

    def _broker(self, cluster: str) -> Any:
        key = (os.getpid(), cluster)
        if key not in self._brokers:
            from django_q.brokers import get_broker

            # Django-Q would make one for each task, with a connection of its own.
            self._brokers[key] = get_broker(cluster)
        return self._brokers[key]


def cluster_of(queue: str) -> str:
    """The cluster that serves a queue: the one of its name, if there is one, else the project's."""
    configured = _q_cluster()
    if queue in (configured.get("ALT_CLUSTERS") or {}):
        return queue
    return str(configured.get("cluster_name", configured.get("name", "default")))


def _without_precedence() -> Iterator[CheckMessage]:
    """What the priorities that queues have by default would make a project expect."""
    limits = {it.name: it.priority for it in queue_limits(get_settings(), registry)}
    named = sorted(registry.queues())
    shared = [it for it in named if limits.get(it) and cluster_of(it) == cluster_of("")]
    if shared:
        yield Warning(
            f"A cluster of Django-Q takes tasks in order; those of the queues {', '.join(shared)}"
            " neither go first nor stand back.",
            hint='Name a cluster in Q_CLUSTER["ALT_CLUSTERS"] like the queue, and start it too.',
            id="rail_async_tasks.W008",
        )


def execute(*arguments: Any, **options: Any) -> None:
    """What a worker runs: the next attempt of the execution whose id is the argument."""
    pools.run(arguments[0] if len(arguments) == 1 and not options else (arguments, options))


def _q_cluster() -> Mapping[str, Any]:
    # Not `Conf`: in a cluster that has another name it is as that cluster sees it.
    return getattr(django_settings, "Q_CLUSTER", None) or {}


def _bound_waits() -> None:
    """Gives Redis's connections a time limit, where the project has set none.

    Those of a cluster too: one whose server goes silent would otherwise wait for ever.
    """
    from django_q.conf import Conf

    limits = {"socket_timeout": _SOCKET_TIMEOUT, "socket_connect_timeout": _SOCKET_TIMEOUT}
    if isinstance(Conf.REDIS, str):
        query = urlsplit(Conf.REDIS).query
        missing = {name: it for name, it in limits.items() if name not in dict(parse_qsl(query))}
        if missing:
            Conf.REDIS += f"{'&' if query else '?'}{urlencode(missing)}"
    else:
        Conf.REDIS = {**limits, **Conf.REDIS}


# --- in a cluster --------------------------------------------------------------------------------

# Shared by a cluster's processes, which are forked from the one that has imported this: whether the
# cluster is told to stop. Django-Q tells its workers only when they ask for the next task.
_stopping = mmap.mmap(-1, 1)


def _look_after_workers() -> None:
    from django_q.cluster import Sentinel
    from django_q.signals import post_execute_in_worker, post_spawn, pre_execute

    post_spawn.connect(_worker_starts, dispatch_uid=PATH)
    pre_execute.connect(pools.began, dispatch_uid=PATH)
    post_execute_in_worker.connect(pools.ended, dispatch_uid=PATH)
    if not hasattr(Sentinel.stop, "__wrapped__"):
        Sentinel.stop = _before(Sentinel.stop, _say_so)
        Sentinel.guard = _before(Sentinel.guard, _leave_signals_to_the_parent)
        Sentinel.spawn_pusher = _before(Sentinel.spawn_pusher, _outlast_outages)


def _before(method: Callable[[Any], Any], does: Callable[[Any], None]) -> Callable[[Any], Any]:
    @wraps(method)
    def both(sentinel: Any) -> Any:
        does(sentinel)
        return method(sentinel)

    return both


def _say_so(sentinel: Any) -> None:
    _stopping[0] = 1


def _outlast_outages(sentinel: Any) -> None:
    """Has the process that reads the broker go on. Django-Q's ends 10 s after the first failure."""
    broker = sentinel.broker
    if not isinstance(broker.dequeue, _Patient):
        broker.dequeue = _Patient(broker.dequeue)


class _Patient:
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
    # It tells the sentinel by an event. Whoever is killed while waiting for one makes it hang.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _worker_starts(**_: Any) -> None:
    """In a worker process, before its first task."""
    pools.begin_child()
    threading.Thread(
        target=_end_when_told, args=(os.getppid(),), name="rail-tasks-told", daemon=True
    ).start()


def _end_when_told(sentinel: int) -> None:
    while not _stopping[0]:
        if os.getppid() != sentinel:
            # Nobody is left who would tell this process that there is no next task.
            os.kill(os.getpid(), signal.SIGTERM)
            return
        time.sleep(_LOOK_INTERVAL)
    pools.begin_to_end()
