"""Mistakes in the settings: `manage.py check` finds them, with the remedy."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps

from rail_async_tasks import task
from tests.mistakes.making import checked, module, refused, without
from tests.mistakes.mistake import mistake

CHECK = "`manage.py check`"


@mistake(
    "A task setting stands beside `task_settings`, not in it",
    says='RAIL_DJANGO_GRAPHQL["backend"] is not read by rail_async_tasks.',
    do='Move it into RAIL_DJANGO_GRAPHQL["task_settings"].',
    where=CHECK,
)
def test_setting_at_the_wrong_level() -> str:
    return checked(RAIL_DJANGO_GRAPHQL={"backend": "thread"})


@mistake(
    "A schema setting stands in `task_settings`",
    says='task_settings["mutation_extensions"] is not a setting.',
    do='Move it into RAIL_DJANGO_GRAPHQL["schema_settings"].',
    where=CHECK,
)
def test_schema_setting_at_the_wrong_level() -> str:
    return checked({"mutation_extensions": ["shop.schema.TaskMutations"]})


@mistake(
    "A misspelt key",
    says='task_settings["max_worker"] is not a setting.',
    do='Did you mean "max_workers"?',
    where=CHECK,
)
def test_misspelt_key() -> str:
    return checked({"max_worker": 8})


@mistake(
    "The settings have another name",
    says="RAIL_ASYNC_TASKS is not read by rail_async_tasks.",
    do='Did you mean "RAIL_DJANGO_GRAPHQL"?',
    where=CHECK,
)
def test_settings_of_another_name(settings: Any) -> str:
    del settings.RAIL_DJANGO_GRAPHQL
    settings.RAIL_ASYNC_TASKS = {"backend": "thread"}
    from rail_async_tasks.checks import check_settings

    return "\n".join(map(str, check_settings(None)))


@mistake(
    "A time as text",
    says="task_settings[\"timeout\"] must be a number, not '5m'.",
    do="Write the seconds as an int or a float.",
    where=CHECK,
)
def test_time_as_text() -> str:
    return checked({"timeout": "5m"})


@mistake(
    "A time as a `timedelta`",
    says='task_settings["timeout"] must be a number, not a timedelta.',
    do="Write the seconds as a number: 300.",
    where=CHECK,
)
def test_time_as_timedelta() -> str:
    return checked({"timeout": timedelta(minutes=5)})


@mistake(
    "A backend that is not there",
    says="task_settings[\"backend\"] is not a backend: 'celeri'.",
    do='Did you mean "celery"?',
    where=CHECK,
)
def test_misspelt_backend() -> str:
    return checked({"backend": "celeri"})


@mistake(
    "The backend's package is not installed",
    says='task_settings["backend"] needs arq, which cannot be imported.',
    do='Install it: pip install "rail_async_tasks[arq]".',
    where=CHECK,
)
def test_backend_without_its_package(monkeypatch: pytest.MonkeyPatch) -> str:
    without(monkeypatch, "arq")
    return checked({"backend": "arq", "redis_url": "redis://127.0.0.1"})


@mistake(
    "The same, met by the first start of a task",
    says='The backend "arq" needs the packages arq and redis:',
    do='pip install "rail_async_tasks[arq]"',
    where="`enqueue()`, the server's log",
)
@pytest.mark.django_db(transaction=True)
def test_start_without_the_backends_package(monkeypatch: pytest.MonkeyPatch, settings: Any) -> str:
    from rail_async_tasks import backends

    @task
    def report() -> None: ...

    without(monkeypatch, "arq")
    settings.RAIL_DJANGO_GRAPHQL = {
        "task_settings": {"backend": "arq", "redis_url": "redis://127.0.0.1"}
    }
    backends._backend.cache_clear()
    try:
        return refused(report.enqueue)
    finally:
        backends._backend.cache_clear()


@mistake(
    "`jwt` without PyJWT",
    says='task_settings["jwt"] needs jwt, which cannot be imported.',
    do='Install it: pip install "rail_async_tasks[jwt]".',
    where=CHECK,
)
def test_jwt_without_its_package(monkeypatch: pytest.MonkeyPatch) -> str:
    without(monkeypatch, "jwt")
    return checked({"jwt": {"key": "k" * 32, "algorithms": ["HS256"]}})


@mistake(
    "`metrics_enabled` without prometheus-client",
    says='task_settings["metrics_enabled"] needs prometheus_client, which cannot be imported.',
    do='Install it: pip install "rail_async_tasks[metrics]".',
    where=CHECK,
)
def test_metrics_without_their_package(monkeypatch: pytest.MonkeyPatch) -> str:
    without(monkeypatch, "prometheus_client")
    return checked({"metrics_enabled": True})


@mistake(
    "`cron` without cronsim",
    says="The task 'tidy' does not run by itself: Tasks with cron need the package cronsim",
    do='pip install "rail_async_tasks[cron]"',
    where=CHECK,
)
def test_cron_without_its_package(monkeypatch: pytest.MonkeyPatch) -> str:
    @task(cron="*/5 * * * *")
    def tidy() -> None: ...

    without(monkeypatch, "cronsim")
    return checked()


@mistake(
    "A schedule in words",
    says="'every 5 minutes' is no cron expression",
    do='Write five fields: minute, hour, day, month, weekday; for example "*/5 * * * *".',
    where=CHECK,
)
def test_schedule_in_words() -> str:
    @task(cron="every 5 minutes")
    def tidy() -> None: ...

    return checked()


@mistake(
    "Tasks run in workers, and the bus is `memory`",
    says='runs tasks in workers, and the bus "memory" reaches no other process',
    do='Set task_settings["redis_url"], and leave "bus" out or set it to "redis".',
    where=CHECK,
)
def test_memory_bus_with_workers() -> str:
    return checked({"backend": "arq", "redis_url": "redis://127.0.0.1", "bus": "memory"})


@mistake(
    '`"channels"` is not in `INSTALLED_APPS`',
    says='"channels" is not in INSTALLED_APPS.',
    do='Add it: INSTALLED_APPS = [..., "channels", "rail_async_tasks"].',
    where=CHECK,
)
def test_channels_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(apps, "is_installed", lambda name: name != "channels")
    return checked()


@mistake(
    "A class in `mutation_extensions` is no Strawberry type",
    says='"shop.TaskMutations" is not a Strawberry type (a class under @strawberry.type)',
    do="Name a Strawberry type (a class under @strawberry.type) there, or remove it.",
    where=CHECK,
)
def test_class_without_strawberry_type(monkeypatch: pytest.MonkeyPatch) -> str:
    module(monkeypatch, "shop", TaskMutations=type("TaskMutations", (), {}))
    return checked(schema={"mutation_extensions": ["shop.TaskMutations"]})


@mistake(
    "An extension as text, not in a list",
    says="schema_settings[\"mutation_extensions\"] must be a list, not 'shop.TaskMutations'.",
    do="Write a list: ['shop.TaskMutations'].",
    where=CHECK,
)
def test_extension_without_a_list() -> str:
    return checked(schema={"mutation_extensions": "shop.TaskMutations"})
