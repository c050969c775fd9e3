"""The `django_q` backend: sends ids to Django-Q's clusters.

A package names a function of ours and the id of an execution. All queues travel in the project's
cluster, but for those that are named like one of its `ALT_CLUSTERS`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from django.apps import apps
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Warning
from django.db import close_old_connections, transaction

from rail_async_tasks.backends.broker import ThreadedBrokerBackend
from rail_async_tasks.conf import get_settings
from rail_async_tasks.errors import ConfigurationError
from rail_async_tasks.ledger.dispatch_records import Dispatch
from rail_async_tasks.queue_limits import queue_limits
from rail_async_tasks.registry import registry

try:
    import django_q  # noqa: F401 - its other modules need apps that are ready
except ImportError as error:
    raise ConfigurationError(
        'The backend "django_q" needs django-q2, which cannot be imported. Install it:'
        ' pip install "rail_async_tasks[django-q]".'
    ) from error

# The function that a package names. Clusters of other releases import it by this path.
EXECUTE: Final = f"{__name__}.execute"
# The rows decide about failures and long runs; Django-Q does nothing about them.
_OPTIONS: Final[dict[str, Any]] = {
    "timeout": -1,
    "ack_failure": True,
    "save": False,
    "cached": False,
    "sync": False,
}
# A Redis that does not answer within this time (seconds) is asked again over a new connection.
_SOCKET_TIMEOUT: Final = 4
_NOT_INSTALLED: Final = '"django_q" is not in INSTALLED_APPS.'
_NOT_INSTALLED_HINT: Final = 'Add it: INSTALLED_APPS = [..., "django_q", "rail_async_tasks"].'


class DjangoQBackend(ThreadedBrokerBackend):
    """See `port.Backend` and `docs/backends/django-q.md`."""

    name = "django_q"
    broker_setting = "Q_CLUSTER"
    worker_command = "manage.py qcluster"

    def __init__(self) -> None:
        super().__init__()
        self._brokers: dict[tuple[int, str], Any] = {}  # by process and cluster

    def declare(self) -> None:
        if apps.is_installed("django_q"):
            _bound_waits()

    def check(self) -> Iterable[CheckMessage]:
        if not apps.is_installed("django_q"):
            yield Error(_NOT_INSTALLED, hint=_NOT_INSTALLED_HINT, id="rail_async_tasks.E019")
        if _q_cluster().get("sync"):
            yield Error(
                'Q_CLUSTER["sync"] is set: Django-Q would run tasks in the processes that enqueue'
                " them, and its workers would run none.",
                hint='Remove it; in tests set task_settings["backend"] to "sync".',
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
                    EXECUTE,
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


# Runs an id. The worker's side sets it.
_run: Callable[[Any], None] | None = None


def run_with(run: Callable[[Any], None]) -> None:
    """Has `execute` call this function with the id of a package. For the worker's side."""
    global _run
    _run = run


def execute(*arguments: Any, **options: Any) -> None:
    """Run the next attempt of the execution whose id is the argument. In a worker process."""
    if _run is None:
        raise ConfigurationError(
            f'A package of the backend "django_q" came to a process whose backend is'
            f' "{get_settings().backend}". Set task_settings["backend"] to "django_q" there.'
        )
    _run(arguments[0] if len(arguments) == 1 and not options else (arguments, options))


def cluster_of(queue: str) -> str:
    """Returns the cluster of the queue's name if there is one, else the project's main cluster."""
    configured = _q_cluster()
    if queue in (configured.get("ALT_CLUSTERS") or {}):
        return queue
    return str(configured.get("cluster_name", configured.get("name", "default")))


def _without_precedence() -> Iterator[CheckMessage]:
    """Warns of tasks in queues whose priority Django-Q does not keep."""
    limits = {it.name: it.priority for it in queue_limits(get_settings(), registry)}
    named = sorted(registry.queues())
    shared = [it for it in named if limits.get(it) and cluster_of(it) == cluster_of("")]
    if shared:
        yield Warning(
            f"The priorities of the queues {', '.join(shared)} have no effect: they share a cluster"
            " of Django-Q, which takes tasks in the order in which they come.",
            hint='Name a cluster in Q_CLUSTER["ALT_CLUSTERS"] like the queue, and start it too.',
            id="rail_async_tasks.W008",
        )


def _q_cluster() -> Mapping[str, Any]:
    # Not `Conf`: an alternative cluster overwrites its values with its own.
    return getattr(django_settings, "Q_CLUSTER", None) or {}


def _bound_waits() -> None:
    """Give connections to Redis a timeout, where the project has set none.

    A cluster has them too: it would wait for ever for a server that has gone silent.
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
