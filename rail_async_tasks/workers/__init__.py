"""Workers: how the ids of executions arrive in the processes that run them."""

from __future__ import annotations

import contextlib
from importlib import import_module
from typing import Final

from rail_async_tasks.backends import find_broker
from rail_async_tasks.conf import get_settings
from rail_async_tasks.errors import ConfigurationError
from rail_async_tasks.safe_logging import get_logger

logger = get_logger("rail_async_tasks.backends")

# By the name of the backend: the module that has a framework's workers run our tasks. arq needs
# none: its worker is a command of ours.
_MODULES: Final = {
    "celery": "rail_async_tasks.workers.celery",
    "dramatiq": "rail_async_tasks.workers.dramatiq",
    "django_q": "rail_async_tasks.workers.django_q",
}


def declare() -> None:
    """Make what the workers of the broker's framework look up by name: tasks, actors, hooks.

    In every process of the project, as any of them may become a worker. Connects to nothing.
    """
    # The system checks report wrong settings and missing packages.
    with contextlib.suppress(ConfigurationError):
        broker = find_broker(get_settings())
        if broker is not None and broker.name in _MODULES:
            try:
                import_module(_MODULES[broker.name]).declare()
            except Exception:  # a worker finds it too, at its first task
                logger.exception("Workers of the backend %s can't be set up", broker.name)
