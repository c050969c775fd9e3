"""The database that the pages read."""

from __future__ import annotations

from rail_async_tasks.conf import get_settings
from rail_async_tasks.dashboard.render import Refused
from rail_async_tasks.hosting import process


def database() -> str:
    """Returns the alias of the database of the tasks.

    Raises:
        Refused: tasks are kept in the memory of the processes that run them.
    """
    if not get_settings().track_in_database:
        raise Refused(
            503,
            'task_settings["track_in_database"] is False: the tasks are in the memory of the'
            " processes that run them, which no page reads. Set it to True.",
        )
    return str(getattr(process.ledger(), "alias", "default"))
