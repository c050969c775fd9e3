"""Django's `default` database pointed at another server, for every thread of this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from typing import Any, Final

import psycopg
from asgiref.local import Local
from asgiref.sync import SyncToAsync
from django.apps import apps
from django.db import ConnectionHandler, connections, transaction
from psycopg.sql import SQL, Identifier

# Filled once by `migrate` and the same for every test.
LASTING_TABLES = {"django_migrations", "django_content_type", "auth_permission"}

# The migrated database of the run's PostgreSQL, which nothing connects to.
TEMPLATE: Final = "migrated"


def forget_connections() -> None:
    """Closes what Django holds open in this thread and in asgiref's, and makes all threads anew.

    `connections` keeps a wrapper per thread, with the address it was made for. A thread that lives
    on would stay at the old database, so the store as a whole is replaced.
    """
    SyncToAsync.single_thread_executor.submit(connections.close_all).result()
    connections.close_all()
    connections._connections = Local(connections.thread_critical)


@contextmanager
def default_database(config: dict[str, Any]) -> Iterator[None]:
    """Makes `config` (an entry of DATABASES) the `default` one meanwhile."""
    # Django fills the gaps of DATABASES in place when it first reads them.
    complete = ConnectionHandler({"default": config}).settings["default"]
    before = connections.settings["default"]
    forget_connections()
    connections.settings["default"] = complete
    try:
        yield
    finally:
        forget_connections()
        connections.settings["default"] = before


@cache
def _existing_tables(vendor: str, name: str) -> frozenset[str]:
    """Returns the tables of `default`, a database of that name; `migrate` has made them."""
    return frozenset(connections["default"].introspection.table_names())


def empty_tables() -> None:
    """Deletes every row of every model's table, but for those that `migrate` writes.

    Foreign keys are looked at when it commits, so that the order does not matter. In one round trip
    where the driver can: it is done after each of some thousand tests.
    """
    connection = connections["default"]
    tables = {model._meta.db_table for model in apps.get_models(include_auto_created=True)}
    existing = _existing_tables(connection.vendor, str(connection.settings_dict["NAME"]))
    deletes = [
        f"DELETE FROM {connection.ops.quote_name(table)}"
        for table in sorted(tables & existing - LASTING_TABLES)
    ]
    with transaction.atomic(), connection.cursor() as cursor:
        for statement in [";".join(deletes)] if connection.vendor == "postgresql" else deletes:
            cursor.execute(statement)


def migrated_copy(server: Any, name: str) -> str:
    """Creates a database with every table on a PostgreSQL, in place of one of that name.

    A copy of the template that the fixture `postgres_server` has migrated: `migrate` would take a
    second of CPU for each. Returns its URL.
    """
    with closing(psycopg.connect(server.url("postgres"), autocommit=True)) as connection:
        new, template = Identifier(name), Identifier(TEMPLATE)
        connection.execute(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(new))
        connection.execute(SQL("CREATE DATABASE {} TEMPLATE {}").format(new, template))
    return str(server.url(name))


def database_url() -> str:
    """The URL of what `default` is now, for `TEST_DATABASE_URL` of another process."""
    config = connections["default"].settings_dict
    if connections["default"].vendor == "sqlite":
        return f"sqlite:///{config['NAME']}"
    if connections["default"].vendor == "mysql":
        return "mysql://{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format(**config)
    return "postgresql://{USER}@{HOST}:{PORT}/{NAME}".format(**config)


class Database:
    """The database that `default` is during a test."""

    def __init__(self, kind: str, url: str) -> None:
        self.kind = kind  # "sqlite", "postgres" or "mariadb"
        self.url = url

    @property
    def env(self) -> dict[str, str]:
        """Returns the environment that makes `tests.settings` use it in another process."""
        return {"TEST_DATABASE": self.kind, "TEST_DATABASE_URL": self.url}
