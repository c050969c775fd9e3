"""Backends: how the ids of executions leave for the processes that run them."""

from __future__ import annotations

import contextlib
from functools import cache
from importlib import import_module

from rail_async_tasks.backends.broker import BrokerBackend
from rail_async_tasks.backends.port import Backend, port_problem
from rail_async_tasks.conf import (
    IN_PROCESS_BACKENDS,
    TaskSettings,
    get_settings,
    import_from_setting,
)
from rail_async_tasks.errors import ConfigurationError
from rail_async_tasks.forks import after_fork
from rail_async_tasks.safe_logging import get_logger

logger = get_logger("rail_async_tasks.backends")

_PLACES = {
    "asyncio": ("rail_async_tasks.backends.in_process", "AsyncioBackend"),
    "thread": ("rail_async_tasks.backends.in_process", "ThreadBackend"),
    "sync": ("rail_async_tasks.backends.in_process", "SyncBackend"),
    "arq": ("rail_async_tasks.backends.arq", "ArqBackend"),
    "celery": ("rail_async_tasks.backends.celery", "CeleryBackend"),
    "dramatiq": ("rail_async_tasks.backends.dramatiq", "DramatiqBackend"),
    "django_q": ("rail_async_tasks.backends.django_q", "DjangoQBackend"),
}


def get_backend(settings: TaskSettings) -> Backend:
    """Returns the backend of the setting `backend`: one of ours, or of a dotted path to a class.

    Raises:
        ConfigurationError: its package is not installed, the path can't be imported, the class
            raises when it is called, or it lacks an attribute of the port.
    """
    return _backend(settings.backend)


def find_broker(settings: TaskSettings) -> BrokerBackend | None:
    """Returns the same if its tasks run in worker processes, else None.

    Raises:
        ConfigurationError: as `get_backend`.
    """
    if settings.backend in IN_PROCESS_BACKENDS or not settings.enabled:
        return None
    backend = get_backend(settings)
    return backend if isinstance(backend, BrokerBackend) else None


def declare() -> None:
    """Call `declare()` of the broker's backend, if the settings name one."""
    # The system checks report wrong settings and missing packages.
    with contextlib.suppress(ConfigurationError):
        broker = find_broker(get_settings())
        if broker is not None:
            try:
                broker.declare()
            except Exception:  # the system checks and the first task find it too
                logger.exception("The backend %s can't be set up", broker.name)


@cache
def _backend(name: str) -> Backend:
    if name in _PLACES:
        module, attribute = _PLACES[name]
        return getattr(import_module(module), attribute)()  # type: ignore[no-any-return]
    found = import_from_setting(name, "backend")
    try:
        backend: Backend = found()
    except Exception as error:
        raise ConfigurationError(
            f'task_settings["backend"]: "{name}" cannot be made: {type(error).__name__}: {error}'
        ) from error
    if (problem := port_problem(backend)) is not None:
        raise ConfigurationError(f'task_settings["backend"]: "{name}" {" ".join(problem)}')
    return backend


# Threads and connections of a backend do not survive a fork.
after_fork(_backend.cache_clear)
