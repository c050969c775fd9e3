"""Asks the factories that apps have registered for what observes, counts or traces tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from rail_async_tasks.conf import TaskSettings
from rail_async_tasks.errors import ConfigurationError
from rail_async_tasks.hooks import asks_to_end
from rail_async_tasks.safe_logging import get_logger

logger = get_logger("rail_async_tasks.observers")

T = TypeVar("T")


def made(factory: Callable[[TaskSettings], T | None], settings: TaskSettings) -> T | None:
    """Returns what the factory makes; None where the settings ask for none.

    None, too, where code of the project's raises, a provider of meters or spans say: tasks go on
    without it. That is logged, once for each of the settings.

    Raises:
        ConfigurationError: it can't be had as the settings ask for it.
    """
    try:
        return factory(settings)
    except ConfigurationError:
        raise
    except BaseException as error:
        if asks_to_end(error):
            raise
        name = getattr(factory, "__qualname__", type(factory).__qualname__)
        logger.exception("%s() failed. Tasks go on without what it makes.", name)
        return None
