"""Workers: how the ids of executions arrive in the processes that run them."""

from __future__ import annotations

import contextlib
from importlib import import_module
from typing import Final

from rail_async_tasks.backends import find_broker
from rail_async_tasks.backends.broker import BrokerBackend
from rail_async_tasks.conf import get_settings
from rail_async_tasks.errors import ConfigurationError
from rail_async_tasks.safe_logging import get_logger

logger = get_logger("rail_async_tasks.backends")

# By the module of the backend: the module that has a framework's workers run our tasks. arq needs
# none: its worker is a command of ours.
_MODULES: Final = {
    "rail_async_tasks.backends.celery": "rail_async_tasks.workers.celery",
    "rail_async_tasks.backends.dramatiq": "rail_async_tasks.workers.dramatiq",
    "rail_async_tasks.backends.django_q": "rail_async_tasks.workers.django_q",
}


def declare() -> None:
    """Make what the workers of the broker's framework look up by name: tasks, actors, hooks.

    In every process of the project, as any of them may become a worker. Connects to nothing.
    """
    # The system checks report wrong settings and missing packages.
    with contextlib.suppress(ConfigurationError):
        broker = find_broker(get_settings())
        if broker is not None and (module := _module_for(broker)) is not None:
            try:
                import_module(module).declare()
            except Exception:  # a worker finds it too, at its first task
                logger.exception("Workers of the backend %s can't be set up", broker.name)


def _module_for(broker: BrokerBackend) -> str | None:
    """Returns the workers' module of the backend or, for a project's subclass, of its base."""
    bases = (it.__module__ for it in type(broker).__mro__)
    return next((_MODULES[base] for base in bases if base in _MODULES), None)
