"""Checks the project and its tasks (E008, E017, E018, E023, W002, W004, W007)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Warning
from django.db import connections, router

from rail_async_tasks import conf
from rail_async_tasks.checks.databases import ledger_alias
from rail_async_tasks.checks.settings import APP
from rail_async_tasks.errors import ConfigurationError, TaskDeclarationError
from rail_async_tasks.registry import registry
from rail_async_tasks.runtime.upkeep.cron import Schedule


def check_project(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Checks the Django project (E023, W002, W004, W007)."""
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
    found += _several_databases()
    database = connections[ledger_alias()]
    zone = database.settings_dict["TIME_ZONE"]
    if not django_settings.USE_TZ and django_settings.TIME_ZONE != "UTC":
        # The ledger converts, but outside PostgreSQL a local time is kept without its offset, and
        # local time repeats an hour each autumn: leases and due times are then off by that hour.
        message = "USE_TZ is False: times are kept by the local clock, which summer time shifts."
        hint = 'Set USE_TZ = True (Django\'s default), or TIME_ZONE = "UTC".'
        found.append(Warning(message, hint=hint, id=f"{APP}.W007"))
    elif zone not in (None, "UTC") and database.vendor != "postgresql":
        message = f'Database "{database.alias}" keeps times in {zone}, which summer time may shift.'
        hint = 'Leave out its "TIME_ZONE", or set it to "UTC".'
        found.append(Warning(message, hint=hint, id=f"{APP}.W007"))
    return found


def _several_databases() -> list[CheckMessage]:
    """Report routers that send our tables to several databases (E023)."""
    models = [model for model in apps.get_models() if model._meta.app_label == APP]
    databases = {model.__name__: router.db_for_write(model) for model in models}
    if len(set(databases.values())) < 2:
        return []
    places = ", ".join(f'{name} to "{alias}"' for name, alias in sorted(databases.items()))
    message = f"DATABASE_ROUTERS send the tables of {APP} to several databases: {places}."
    hint = "One transaction writes several of them: send the whole app to one database."
    return [Error(message, hint=hint, id=f"{APP}.E023")]


def check_tasks(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Checks the settings that declared tasks need (E008), and their schedules (E017)."""
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
            hint='Set task_settings["encryption_keys"] to a list of Fernet keys. One is made by:'
            " python -c 'from cryptography.fernet import Fernet;"
            " print(Fernet.generate_key().decode())'",
            id=f"{APP}.E008",
        )
        for definition in registry.definitions()
        if definition.options.sensitive
    ]
