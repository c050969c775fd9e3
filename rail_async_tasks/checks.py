"""The system checks: everything that is wrong with the set-up, at once, with what to do about it.

They read the settings without refusing them, so they run and report whatever else is wrong. Ids
are stable; what is silenced by id stays silenced.

    id     what
    E001   `RAIL_DJANGO_GRAPHQL` or a section of it is not a dict
    E002   unknown key
    E003   value of a wrong type
    E004   number out of its range, NaN or infinite
    E005   text that is none of the allowed words
    E006   malformed text: dotted path, rate, URL, name; a `redis_url` that redis-py can't read
    E007   `default_queue` is not one of the queues
    E008   a value needs another setting that is missing
    E009   two settings contradict each other
    E010   `jwt` is wrong
    E011   `encryption_keys` has something that is no Fernet key
    E012   an extension of the schema cannot be imported, or is no Strawberry type
    E013   another dotted path cannot be imported, or is not what the setting takes
    E015   a setting needs a Python package that is not installed
    E016   SQLite is older than 3.35
    E017   a task's `cron` is no cron expression, or cronsim is not installed
    E018   a task has an annotation that names nothing
    E019   the framework of the backend is set up in a way that does not work
    E020   a queue or a task asks for something that the backend does not do
    W001   a section or key that looks like a misspelt one
    W002   a setting that another one leaves without effect
    W004   an app is missing from `INSTALLED_APPS`
    W005   SQLite is not in WAL mode
    W006   a database that is neither SQLite nor PostgreSQL
    W007   `USE_TZ` is False and `TIME_ZONE` is not UTC
    W008   the framework of the backend has a setting that does nothing, or harm, to tasks
    W009   tasks run in workers, and the bus reaches no further than one process

All are prefixed `rail_async_tasks.`. E016, W005 and W006 look at the database, so they run with
`check --database` and `migrate` only, as Django's own do.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, cast

from django.apps import AppConfig, apps
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import connections, router
from django.db.backends.base.base import BaseDatabaseWrapper
from strawberry.types import has_object_definition

from rail_async_tasks import backends, conf
from rail_async_tasks.backends.broker import BrokerBackend, ThreadedBrokerBackend
from rail_async_tasks.backends.port import Capabilities
from rail_async_tasks.definition import registry
from rail_async_tasks.errors import (
    ConfigurationError,
    TaskDeclarationError,
)
from rail_async_tasks.runtime.schedule import Schedule

TAG: Final = "rail_async_tasks"
APP: Final = "rail_async_tasks"

# `ALTER TABLE ... DROP COLUMN` and `UPDATE ... RETURNING`, which the ledger is written with.
OLDEST_SQLITE: Final = (3, 35)

WAL_HINT: Final = (
    'Add "OPTIONS": {"init_command": "PRAGMA journal_mode=WAL", "transaction_mode": "IMMEDIATE"} '
    "to the database's settings, so that readers and the writer do not wait for each other."
)

# Value of the setting: the extra that installs what it needs, and the packages that it brings.
_BACKENDS: Final = {
    "arq": ("arq", ("arq",)),
    "celery": ("celery", ("celery",)),
    "dramatiq": ("dramatiq", ("dramatiq",)),
    "django_q": ("django-q", ("django_q",)),
}
_BUSES: Final = {"redis": ("redis", ("redis",))}

Check = Callable[..., list[CheckMessage]]


def register_checks() -> None:
    """Registers the checks with Django; called when the app is ready."""
    for check in (
        check_settings,
        check_dotted_paths,
        check_packages,
        check_backend,
        check_capabilities,
        check_bus,
        check_redis_url,
        check_jwt_keys,
        check_project,
        check_tasks,
    ):
        register(check, TAG)
    register(check_databases, Tags.database)


def check_settings(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Every mistake in the settings themselves (E001 to E011, W001, W002)."""
    return [
        (Error if problem.level == "error" else Warning)(
            problem.message, hint=problem.hint, id=problem.id
        )
        for problem in conf.validate()
    ]


def check_dotted_paths(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """What dotted paths name must import and be of use (E012, E013)."""
    parsed = conf.read()
    found: list[CheckMessage] = []
    for key, paths in parsed.extensions.items():
        for path in paths:
            found += _import_problems(
                path, f'schema_settings["{key}"]', "E012", has_object_definition,
                "a Strawberry type (a class under @strawberry.type)",
            )  # fmt: skip
    for key, (is_right, expected) in _DOTTED_KEYS.items():
        value = parsed.task_values.get(key)
        if value is not None and "." in value:  # a backend may be a bare name
            found += _import_problems(value, f'task_settings["{key}"]', "E013", is_right, expected)
    return found


# What the service and these checks use of a backend.
_PORT: Final = ("inline", "capabilities", "asubmit", "submit", "arrived", "cancel")

_DOTTED_KEYS: Final[dict[str, tuple[Callable[[Any], bool], str]]] = {
    "backend": (
        lambda value: isinstance(value, type) and all(hasattr(value, name) for name in _PORT),
        "a backend class",
    ),
    "celery_app": (lambda value: hasattr(value, "send_task"), "a Celery app"),
    "failure_callback": (callable, "callable"),
    "tenant_resolver": (callable, "callable"),
    "authenticator": (callable, "callable"),
}


def _import_problems(
    path: str, place: str, number: str, is_right: Callable[[Any], bool], expected: str
) -> Iterator[CheckMessage]:
    check_id = f"{APP}.{number}"
    try:
        value = conf.import_from_setting(path, place)
    except ConfigurationError as error:
        module, _, name = path.rpartition(".")
        hint = f'Check the spelling, and that "from {module} import {name}" works.'
        yield Error(str(error), hint=hint, id=check_id)
        return
    if not is_right(value):
        message = f'{place}: "{path}" is not {expected} but {type(value).__name__}.'
        yield Error(message, hint=f"Name {expected} there, or remove it.", id=check_id)


def check_packages(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """A setting whose Python package is missing (E015)."""
    found: list[CheckMessage] = []
    for place, extra, packages in _needed(conf.read()):
        missing = [package for package in packages if not _is_installed(package)]
        if missing:
            message = f"{place} needs {' and '.join(missing)}, which cannot be imported."
            hint = f'Install it: pip install "rail-async-tasks[{extra}]".'
            found.append(Error(message, hint=hint, id=f"{APP}.E015"))
    return found


def _needed(parsed: conf.Parsed) -> Iterator[tuple[str, str, Iterable[str]]]:
    """What the settings use: the place, the extra that installs it, the packages it needs."""
    values = parsed.task_values
    for key, known in (("backend", _BACKENDS), ("bus", _BUSES)):
        if (needed := known.get(values.get(key, ""))) is not None:
            yield f'task_settings["{key}"]', *needed
    if (jwt := values.get("jwt")) is not None:
        by_secret = jwt.algorithms[0].startswith("HS")
        yield 'task_settings["jwt"]', "jwt", ("jwt",) if by_secret else ("jwt", "cryptography")
    if values.get("encryption_keys") is not None:
        yield 'task_settings["encryption_keys"]', "crypto", ("cryptography",)
    if values.get("metrics_enabled"):
        yield 'task_settings["metrics_enabled"]', "metrics", ("prometheus_client",)


def check_backend(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """How the project has set up the framework that carries its tasks (E019, W008)."""
    # Wrong settings and missing packages are what other checks report.
    with contextlib.suppress(ConfigurationError):
        settings = conf.get_settings()
        try:
            broker = backends.find_broker(settings)
        except ConfigurationError as error:
            place, (is_right, expected) = 'task_settings["backend"]', _DOTTED_KEYS["backend"]
            if "." not in settings.backend or any(
                _import_problems(settings.backend, place, "E013", is_right, expected)
            ):
                return []
            hint = "It is made without arguments, and must connect to nothing by then."
            return [Error(str(error), hint=hint, id=f"{APP}.E013")]
        return [] if broker is None else [*_without_push(broker), *broker.check()]
    return []


def _without_push(broker: BrokerBackend) -> Iterator[CheckMessage]:
    kind = type(broker)
    if kind.push is BrokerBackend.push or (
        kind.push is ThreadedBrokerBackend.push
        and getattr(kind, "push_here", None) is ThreadedBrokerBackend.push_here
    ):
        message = f'task_settings["backend"]: "{broker.name}" does not say how to push.'
        hint = "Write the method push, or push_here of a ThreadedBrokerBackend."
        yield Error(message, hint=hint, id=f"{APP}.E013")


def check_capabilities(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """What is asked of a backend that it does not do (E020).

    The priorities that `high` and `low` have by default are nobody's wish.
    """
    found: list[CheckMessage] = []
    with contextlib.suppress(ConfigurationError):
        settings = conf.get_settings()
        can = getattr(backends.get_backend(settings), "capabilities", Capabilities())
        for name, queue in settings.queues.items():
            usual = conf.DEFAULT_QUEUES.get(name, conf.QueueSettings())
            place = f'task_settings["queues"]["{name}"]'
            if queue.priority != usual.priority and not can.queue_priority:
                message = f'{place}: the backend "{settings.backend}" takes queues in no order.'
                hint = "Remove the priority, and give that queue workers of its own."
                found.append(Error(message, hint=hint, id=f"{APP}.E020"))
            if queue.concurrency is not None and not can.queue_concurrency:
                message = (
                    f'{place}: the backend "{settings.backend}" keeps no concurrency per queue.'
                )
                hint = "Remove it, and give that queue a worker of its own with so many slots."
                found.append(Error(message, hint=hint, id=f"{APP}.E020"))
        for definition in registry.definitions():
            if definition.options.priority and not can.priority:
                message = (
                    f"The task {definition.name!r} has a priority, and the backend"
                    f' "{settings.backend}" takes what waits in a queue in its order.'
                )
                hint = "Remove it, or put the task into a queue of its own, with workers."
                found.append(Error(message, hint=hint, id=f"{APP}.E020"))
    return found


def check_bus(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Whether a watcher hears of what runs in a worker (W009)."""
    with contextlib.suppress(ConfigurationError):
        settings = conf.get_settings()
        if settings.bus == "memory" and backends.find_broker(settings) is not None:
            message = (
                f'The backend "{settings.backend}" runs tasks in workers, and the bus "memory"'
                " reaches no other process: subscriptions read the rows again every 2 s."
            )
            hint = 'Set task_settings["redis_url"], and leave "bus" out or set it to "redis".'
            return [Warning(message, hint=hint, id=f"{APP}.W009")]
    return []


def check_redis_url(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """What has the look of a Redis URL and is of no use to redis-py (E006)."""
    values = conf.read().task_values
    url = values.get("redis_url")
    used = values.get("bus") == "redis" or values.get("backend") == "arq"
    if not used or not isinstance(url, str) or not _is_installed("redis"):
        return []
    from rail_async_tasks.bus.redis import RedisBus

    try:
        RedisBus(url, "")
    except ConfigurationError as error:
        hint = 'Write "redis://:password@host:6379/0", and options as redis-py names them.'
        return [Error(str(error), hint=hint, id=f"{APP}.E006")]
    return []


def check_jwt_keys(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Keys that have the look of one and cannot be read (E010)."""
    jwt = conf.read().task_values.get("jwt")
    if jwt is None or not (_is_installed("jwt") and _is_installed("cryptography")):
        return []
    from rail_async_tasks.auth.jwt import Verifier

    try:
        Verifier(jwt)
    except ConfigurationError as error:
        hint = (
            "Write the key that the algorithms are for: a public key in PEM, or for HS... a secret."
        )
        return [Error(str(error), hint=hint, id=f"{APP}.E010")]
    return []


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # a parent that does not import; a half-imported module
        return False


def check_project(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """What the Django project must have (W004, W007)."""
    found: list[CheckMessage] = []
    for app in ("channels", "strawberry_django"):
        if not apps.is_installed(app):
            message = f'"{app}" is not in INSTALLED_APPS.'
            hint = f'Add it: INSTALLED_APPS = [..., "{app}", "rail_async_tasks"].'
            found.append(Warning(message, hint=hint, id=f"{APP}.W004"))
    values = conf.read().task_values
    if values.get("audit_enabled") is True and values.get("track_in_database") is False:
        message = "The audit has no effect: tasks are not kept in the database."
        hint = "Switch track_in_database on, or audit_enabled off."
        found.append(Warning(message, hint=hint, id=f"{APP}.W002"))
    if not django_settings.USE_TZ and django_settings.TIME_ZONE != "UTC":
        # The ledger converts, but outside PostgreSQL a local time is kept without its offset, and
        # local time repeats an hour each autumn: leases and due times are then off by that hour.
        message = "USE_TZ is False: times are kept by the local clock, which summer time shifts."
        hint = 'Set USE_TZ = True (Django\'s default), or TIME_ZONE = "UTC".'
        found.append(Warning(message, hint=hint, id=f"{APP}.W007"))
    return found


def check_tasks(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """What declared tasks need of the settings (E008), and their schedules (E017)."""
    found: list[CheckMessage] = []
    try:
        registry.resolve()
    except TaskDeclarationError as error:
        found += [Error(line, id=f"{APP}.E018") for line in str(error).splitlines()]
    for definition in registry.definitions():
        if definition.options.cron is not None:
            try:
                Schedule(definition.options.cron)
            except ConfigurationError as error:
                message = f"The task {definition.name!r} does not run by itself: {error}"
                found.append(Error(message, id=f"{APP}.E017"))
    if conf.read().task_values.get("encryption_keys"):
        return found
    return found + [
        Error(
            f"The task {definition.name!r} has sensitive arguments, and there are no keys to"
            " encrypt them with.",
            hint='Set task_settings["encryption_keys"] to a list of Fernet keys.',
            id=f"{APP}.E008",
        )
        for definition in registry.definitions()
        if definition.options.sensitive
    ]


def check_databases(
    app_configs: Sequence[AppConfig] | None,
    databases: Iterable[str] | None = None,
    **_: Any,
) -> list[CheckMessage]:
    """The database that keeps the tasks, where Django was asked to look at it."""
    alias = _ledger_alias()
    if alias not in (databases or ()):
        return []
    if conf.read().task_values.get("track_in_database") is False:
        return []
    connection = connections[alias]
    if connection.vendor == "sqlite":
        return _check_sqlite(connection)
    if connection.vendor != "postgresql":
        name = connection.display_name
        message = f'Database "{alias}" ({name}) keeps tasks by a slower path: a statement per row.'
        hint = (
            "All promises hold there; it is tested on MariaDB (docs/databases.md). For more tasks a"
            f' second use PostgreSQL, or add "{APP}.W006" to SILENCED_SYSTEM_CHECKS.'
        )
        return [Warning(message, hint=hint, id=f"{APP}.W006")]
    return []


def _ledger_alias() -> str:
    try:
        model = apps.get_model(APP, "TaskExecution")
    except LookupError:  # the app is not installed; its checks may still be called
        return "default"
    return router.db_for_write(model)


def _check_sqlite(connection: BaseDatabaseWrapper) -> list[CheckMessage]:
    version = cast(Any, connection).Database.sqlite_version_info
    if version < OLDEST_SQLITE:
        message = f"SQLite {'.'.join(map(str, version))} is too old."
        hint = "Use Python with SQLite 3.35 or newer, or PostgreSQL."
        return [Error(message, hint=hint, id=f"{APP}.E016")]
    mode = _journal_mode(connection)
    if mode in (None, "wal", "memory"):  # "memory": an in-memory database, which has no WAL
        return []
    message = f'The SQLite database "{connection.alias}" is not in WAL mode but "{mode}".'
    return [Warning(message, hint=WAL_HINT, id=f"{APP}.W005")]


def _journal_mode(connection: BaseDatabaseWrapper) -> str | None:
    """SQLite's journal mode; None where the database cannot be asked, which Django itself says."""
    was_open = connection.connection is not None
    try:
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA journal_mode")
            row = cursor.fetchone()
        return str(row[0]).lower() if row else None
    except Exception:  # noqa: BLE001 - a driver, a wrong OPTIONS, a directory that is missing
        return None
    finally:
        if not was_open:
            with contextlib.suppress(Exception):
                connection.close()
