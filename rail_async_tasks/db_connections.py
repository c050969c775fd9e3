"""Database connections of threads that the package owns."""

from __future__ import annotations

import copy
import secrets
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any, Final

from django.db import Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from rail_async_tasks.conf import get_settings

# Seconds that a connection of ours waits for SQLite's one write lock, where nothing else is set.
SQLITE_TIMEOUT = 30


def dedicated_connection(alias: str) -> BaseDatabaseWrapper:
    """Opens a lasting connection for this thread alone, which its ORM calls for `alias` use too.

    Never from a pool: four long tasks would starve the writers of a pool of four.
    """
    ordinary = connections[alias]
    settings_dict = _patient(ordinary)
    settings_dict["CONN_MAX_AGE"] = None
    settings_dict["OPTIONS"].pop("pool", None)
    if ordinary.vendor == "postgresql":
        _use_read_committed(settings_dict)
        _limit_waits(settings_dict)
    elif ordinary.vendor == "mysql":
        _limit_waits_of_mysql(settings_dict)
    connection = type(ordinary)(settings_dict, alias)
    # With DEBUG on, Django would keep the text of the last 9,000 batches.
    connection.queries_log = deque(maxlen=0)
    ordinary.close()
    connections[alias] = connection
    return connection


def listening_connection(alias: str) -> BaseDatabaseWrapper:
    """Opens a connection to PostgreSQL that waits for notices alone.

    It is in autocommit mode. The kernel finds out whether the server is still there.
    """
    ordinary = connections[alias]
    settings_dict = copy.deepcopy(ordinary.settings_dict)
    settings_dict["CONN_MAX_AGE"] = None
    options = settings_dict["OPTIONS"]
    options.pop("pool", None)
    _limit_waits(settings_dict)
    for name, value in {"keepalives_idle": 10, "keepalives_interval": 5}.items():
        options.setdefault(name, value)
    connection = type(ordinary)(settings_dict, alias)
    connection.queries_log = deque(maxlen=0)
    connection.ensure_connection()
    connection.set_autocommit(True)
    return connection


# The error numbers of MySQL and MariaDB for statements that may succeed another time: too many
# connections or users, no access as yet, a shutdown, a broken line, a lock, a deadlock, a server
# that was made read-only, a query that was ended.
_PASSING = {
    0, 1020, 1021, 1040, 1042, 1043, 1044, 1045, 1049, 1053, 1077, 1129, 1130, 1152, 1158, 1159,
    1160, 1161, 1180, 1184, 1203, 1205, 1213, 1226, 1290, 1317, 1412, 1614, 1792, 1836, 1927, 1969,
    3024, 3169, 4031,
}  # fmt: skip


def is_passing(code: int) -> bool:
    """Returns whether an OperationalError of MySQL's may pass; others are of the statement.

    Numbers from 2000 on are the client's: there was no answer.
    """
    return code in _PASSING or 2000 <= code < 3000


_BEGIN = {
    "sqlite": "BEGIN IMMEDIATE",
    # Claims decide by the latest committed rows, whatever level the project sets.
    "postgresql": "BEGIN ISOLATION LEVEL READ COMMITTED",
}


class Prepared(str):
    """A statement that PostgreSQL plans once for many executions.

    Its plan must be right whatever its parameters are. Planning the two statements of a batch takes
    the server longer than writing ten rows. On other databases it is text like any other.
    """

    __slots__ = ()


# Seconds that a plan is used for: one that was made for an empty table scans a table that grows.
PLAN_SECONDS: Final = 2.0
# Executions within that time before statements are prepared, which is a round trip for each.
_UNPREPARED: Final = 10

# PostgreSQL's invalid_sql_statement_name and duplicate_prepared_statement: a pooler has put another
# connection behind ours.
_NOT_PREPARED: Final = ("26000", "42P05")


class DriverCursor:
    """The driver's own lasting cursor of a dedicated connection.

    Django makes a cursor per use and, on SQLite, rewrites the text of every statement to the
    driver's style of parameters: together as much work as a batch of ten rows.
    """

    def __init__(self, connection: BaseDatabaseWrapper, *, prepares: bool = True) -> None:
        # Django's own first: a backend may choose a schema as it makes one, as django-tenants does.
        connection.cursor().close()
        self._errors = connection.wrap_database_errors
        self._cursor = self._last = connection.connection.cursor()
        sqlite = connection.vendor == "sqlite"
        self._text = _as_qmarks if sqlite else _as_is
        self._begin = _BEGIN.get(connection.vendor, "BEGIN")
        self._prepared = _preparing_cursor(connection) if prepares else None
        self._plans_until = 0.0
        self._executions = 0  # of such statements, within that time

    def execute(self, statement: str, params: Sequence[Any] | None = None) -> None:
        """Runs a statement written for Django's cursors; errors are Django's too."""
        with self._errors:
            if self._prepared is None or type(statement) is not Prepared:
                self._last = self._cursor
                self._cursor.execute(self._text(statement), params or ())
                return
            self._last = self._prepared
            driver = self._prepared.connection
            # Only now: the driver counts what other cursors execute, too, and would prepare it.
            driver.prepare_threshold = _UNPREPARED
            try:
                self._execute_prepared(statement, params)
            finally:
                driver.prepare_threshold = None

    def _execute_prepared(self, statement: str, params: Sequence[Any] | None) -> None:
        assert self._prepared is not None
        now = time.monotonic()
        if now >= self._plans_until:
            if self._executions > _UNPREPARED:
                self._prepared.execute("DEALLOCATE ALL")
            self._plans_until, self._executions = now + PLAN_SECONDS, 0
        self._executions += 1
        prepare = self._executions > _UNPREPARED
        self._prepared.execute(statement, params, prepare=prepare)

    def fetchall(self) -> list[Any]:
        """Returns the rows of the last statement."""
        rows: list[Any] = self._last.fetchall()
        return rows

    def fetchone(self) -> Any:
        """Returns the next row of the last statement; None where there is none."""
        return self._last.fetchone()

    @property
    def rowcount(self) -> int:
        """The number of rows that the last statement changed, where it returns none."""
        return int(self._last.rowcount)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Runs the statements within as one transaction. Not nested."""
        self.execute(self._begin)
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            with suppress(Error):  # it was lost, or the database has rolled back by itself
                self.execute("ROLLBACK")
            raise


def _preparing_cursor(connection: BaseDatabaseWrapper) -> Any:
    """Returns a cursor that prepares statements; None where the driver or a pooler does not."""
    driver: Any = getattr(connection, "Database", None)
    if connection.vendor != "postgresql" or not hasattr(driver, "ClientCursor"):
        return None  # psycopg 2 has neither
    if connection.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS"):
        return None
    names: Any = getattr(connection.connection, "_prepared", None)
    if not hasattr(names, "_prepared_idx"):
        return None
    # Names that no other connection has: behind a pooler without the setting, a name that this
    # server does not know is an error, and never another statement.
    names._prepared_idx = secrets.randbits(48)  # noqa: SLF001
    return driver.Cursor(connection.connection)


def is_of_pooler(error: Exception) -> bool:
    """Returns whether a prepared statement is not where it was prepared: a pooler moved us."""
    return getattr(error.__cause__, "sqlstate", None) in _NOT_PREPARED


def _as_is(statement: str) -> str:
    return statement


@lru_cache
def _as_qmarks(statement: str) -> str:
    return statement.replace("%s", "?").replace("%%", "%")


def make_thread_patient() -> None:
    """Makes this thread's connections to SQLite wait for its write lock, as the writers' do.

    By Django's default a transaction begins DEFERRED: one that reads first and then writes fails at
    once when another has written meanwhile, whatever its timeout.
    """
    for connection in connections.all():
        if connection.vendor == "sqlite":
            connection.settings_dict = _patient(connection)


def _use_read_committed(settings_dict: dict[str, Any]) -> None:
    """Sets READ COMMITTED for a connection to PostgreSQL, whatever level the project sets."""
    from django.db.backends.postgresql.psycopg_any import IsolationLevel

    options = settings_dict["OPTIONS"]
    options["isolation_level"] = IsolationLevel.READ_COMMITTED  # transactions of the ORM
    # Single statements. The last such option wins, and takes precedence over a role's default.
    level = r"-c default_transaction_isolation=read\ committed"
    given = options.get("options", "")
    if not (settings_dict.get("DISABLE_SERVER_SIDE_CURSORS") or given.endswith(level)):
        options["options"] = f"{given} {level}".lstrip()


def _limit_waits(settings_dict: dict[str, Any]) -> None:
    """Makes a connection to PostgreSQL fail, and be replaced, before the lease is over.

    Whatever it waits for: a lock, a slow statement, a server that is gone without a word.
    """
    seconds = max(get_settings().lease_seconds / 2, 1)
    milliseconds = min(int(seconds * 1000), 2**31 - 1)  # PostgreSQL's largest
    options = settings_dict["OPTIONS"]
    options.setdefault("connect_timeout", min(max(2, int(seconds)), 3600))
    options.setdefault("tcp_user_timeout", milliseconds)
    if settings_dict.get("DISABLE_SERVER_SIDE_CURSORS"):
        return  # behind a pooler of transactions, which knows no settings of a session
    limits = " ".join(
        f"-c {name}={milliseconds}"
        for name in ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
    )
    given = options.get("options", "")
    if not given.startswith(limits):  # a replacement is made from the settings of the one it is for
        # Later ones hold: what the project has set itself stays.
        options["options"] = f"{limits} {given}".rstrip()


def _limit_waits_of_mysql(settings_dict: dict[str, Any]) -> None:
    """The same for MySQL and MariaDB: for locked rows, and for a silent server."""
    seconds = max(int(get_settings().lease_seconds / 2), 1)
    options = settings_dict["OPTIONS"]
    # What a decision goes by is read as it stands, not as it stood when the transaction began.
    options["isolation_level"] = "read committed"
    options.setdefault("init_command", f"SET SESSION innodb_lock_wait_timeout = {seconds}")
    options.setdefault("connect_timeout", max(2, seconds))
    for name in ("read_timeout", "write_timeout"):
        options.setdefault(name, seconds + 1)


def _patient(connection: BaseDatabaseWrapper) -> dict[str, Any]:
    settings_dict = copy.deepcopy(connection.settings_dict)
    options = settings_dict.setdefault("OPTIONS", {})
    if connection.vendor == "sqlite":
        options.setdefault("timeout", SQLITE_TIMEOUT)
        options["transaction_mode"] = "IMMEDIATE"
    return settings_dict
