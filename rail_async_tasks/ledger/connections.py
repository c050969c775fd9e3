"""Database connections of threads that the package owns."""

from __future__ import annotations

import copy
from collections import deque
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

# Seconds that a connection of ours waits for SQLite's one write lock, where nothing else is set.
SQLITE_TIMEOUT = 30


def dedicated_connection(alias: str) -> BaseDatabaseWrapper:
    """A lasting connection for this thread alone, which its ORM calls for `alias` use too.

    Never from a pool: four long tasks would starve the writers of a pool of four.
    """
    ordinary = connections[alias]
    settings_dict = _patient(ordinary)
    settings_dict["CONN_MAX_AGE"] = None
    settings_dict["OPTIONS"].pop("pool", None)
    connection = type(ordinary)(settings_dict, alias)
    # With DEBUG on, Django would keep the text of the last 9,000 batches.
    connection.queries_log = deque(maxlen=0)
    ordinary.close()
    connections[alias] = connection
    return connection


def make_thread_patient() -> None:
    """Has this thread's connections to SQLite wait for its write lock, as the writers' do.

    By Django's default a transaction begins DEFERRED: one that reads first and then writes fails at
    once when another has written meanwhile, whatever its timeout.
    """
    for connection in connections.all():
        if connection.vendor == "sqlite":
            connection.settings_dict = _patient(connection)


def _patient(connection: BaseDatabaseWrapper) -> dict[str, Any]:
    settings_dict = copy.deepcopy(connection.settings_dict)
    options = settings_dict.setdefault("OPTIONS", {})
    if connection.vendor == "sqlite":
        options.setdefault("timeout", SQLITE_TIMEOUT)
        options["transaction_mode"] = "IMMEDIATE"
    return settings_dict
