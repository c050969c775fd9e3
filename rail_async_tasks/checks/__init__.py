"""The system checks: every problem of the set-up at once, with its remedy.

They read the settings without refusing wrong ones, so that one problem hides no other. Ids are
stable, so that a silenced check stays silenced.

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
    E012   an extension of the schema cannot be imported, or is no Strawberry type or extension
    E013   another dotted path cannot be imported, or is not what the setting takes
    E015   a setting needs a Python package that is not installed
    E016   SQLite is older than 3.35
    E017   a task's `cron` is no cron expression, or cronsim is not installed
    E018   a task has an annotation that names nothing
    E019   the framework of the backend is set up in a way that does not work
    E020   a queue or a task asks for something that the backend does not do
    E021   the extensions make no GraphQL schema: names clash, or it cannot be built
    E022   an extension of the schema stands outside `schema_settings`, or is misspelt there
    E023   the tables are in several databases
    E030   the OPTIONS or QUEUES of a backend of ours in the TASKS setting are wrong
    E031   a backend of ours is in the TASKS setting, and the app is not installed
    E034   django-tenants has the tables in tenants' schemas, or not in the public one
    W001   a section or key that looks like a misspelt one, or that is read at another level
    W002   a setting that another one leaves without effect
    W004   an app is missing from `INSTALLED_APPS`
    W005   SQLite is not in WAL mode
    W006   a database that is neither SQLite nor PostgreSQL
    W007   `USE_TZ` is False and `TIME_ZONE` is not UTC, or the database has such a zone
    W008   the framework of the backend has a setting that does nothing, or harm, to tasks
    W009   tasks run in workers, and the bus reaches no further than one process
    W012   `ASGI_APPLICATION` is missing, or does not start the runtime with the server
    W013   probes are redirected to HTTPS (with `check --deploy`)
    W014   pages ask for a login, and `anonymous_access` is not set
    W015   mutations are declared, and no URL serves GraphQL
    W016   a task of `@task_mutation` is in no schema that a URL serves
    W017   a schema starts tasks, and has no field that reads or follows them
    W018   the database lacks tables or columns: `migrate` has not run
    W020  callers without a credential may start tasks (W020 to W028 with `check --deploy`)
    W021  starts have no rate limit
    W022  `DEBUG` is on
    W023  the key of bearer tokens is weak
    W024  several worker processes, and the bus reaches no further than one
    W025  introspection is on
    W026  the console is on
    W027  `SECURE_PROXY_SSL_HEADER` is not set
    W028  a proxy is in front, and `trusted_proxies` names none

All are prefixed `rail_async_tasks.`. E016, W005, W006 and W018 look at the database, so they run
with `check --database` and `migrate` only, as Django's own do; W018 not with `migrate`. E030 and
E031 come from `contrib.django_tasks`, by Django's own check of the TASKS setting.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

from django.core.checks import CheckMessage, Tags, register

TAG: Final = "rail_async_tasks"

Check = Callable[..., list[CheckMessage]]


def _imported_when_run(module: str, name: str) -> Check:
    """Returns a check whose module is imported at its first run: most starts run none."""

    def check(*args: Any, **kwargs: Any) -> list[CheckMessage]:
        found: Check = getattr(import_module(f"{__name__}.{module}"), name)
        return found(*args, **kwargs)

    check.__name__ = check.__qualname__ = name
    return check


check_settings = _imported_when_run("settings", "check_settings")
check_dotted_paths = _imported_when_run("settings", "check_dotted_paths")
check_packages = _imported_when_run("settings", "check_packages")
check_redis_url = _imported_when_run("settings", "check_redis_url")
check_jwt_keys = _imported_when_run("settings", "check_jwt_keys")
check_backend = _imported_when_run("brokers", "check_backend")
check_capabilities = _imported_when_run("brokers", "check_capabilities")
check_bus = _imported_when_run("brokers", "check_bus")
check_project = _imported_when_run("project", "check_project")
check_tasks = _imported_when_run("project", "check_tasks")
check_login = _imported_when_run("middleware", "check_login")
check_probes = _imported_when_run("middleware", "check_probes")
check_schema = _imported_when_run("schema", "check_schema")
check_application = _imported_when_run("application", "check_application")
check_tenants = _imported_when_run("tenants", "check_tenants")
check_urls = _imported_when_run("urls", "check_urls")
check_exposure = _imported_when_run("exposure", "check_exposure")
check_databases = _imported_when_run("databases", "check_databases")


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
        check_login,
        check_tasks,
        check_schema,
        check_application,
        check_tenants,
        check_urls,
    ):
        register(check, TAG)
    register(check_probes, TAG, deploy=True)
    register(check_exposure, TAG, deploy=True)
    register(check_databases, Tags.database)
