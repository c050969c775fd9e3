"""Mistakes in declarations: the import of the module fails, and says what to write."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import strawberry
from django.contrib.auth.models import User
from django.http import HttpRequest

from rail_async_tasks import task, task_mutation
from tests.mistakes.making import checked, module, refused
from tests.mistakes.mistake import mistake

IMPORT = "the import of the module"


def declared(function: Callable[..., Any], **options: Any) -> str:
    """Returns the error of a declaration."""
    return refused(lambda: task(**options)(function))


@mistake(
    "An argument without a type",
    says="parameter 'count': has no type;",
    do='write one, such as "count: str".',
    where=IMPORT,
)
def test_argument_without_a_type() -> str:
    def report(count) -> None: ...  # type: ignore[no-untyped-def]

    return declared(report)


@mistake(
    "`*args` or `**kwargs`",
    says="parameter '*args':",
    do="name each argument, with its type.",
    where=IMPORT,
)
def test_star_arguments() -> str:
    def report(*args: int) -> None: ...

    return declared(report)


@mistake(
    "A model as the type of an argument",
    says="parameter 'user': User has no JSON form;",
    do="pass its primary key, and load it in the body.",
    where=IMPORT,
)
def test_model_as_a_type() -> str:
    def report(user: User) -> None: ...

    return declared(report)


@mistake(
    "The request as an argument",
    says="parameter 'request': HttpRequest has no JSON form;",
    do="info.context.user is its user; pass what else the body needs of it.",
    where=IMPORT,
)
def test_request_as_an_argument() -> str:
    def report(request: HttpRequest) -> None: ...

    return declared(report)


@mistake(
    "`self` as Celery's `bind=True` has it",
    says="parameter 'self':",
    do="write (info, ...): a body has its task in info.context.task.",
    where=IMPORT,
)
def test_self() -> str:
    def report(self: Any, count: int) -> None: ...

    return declared(report)


@mistake(
    "An option of another library",
    says="there is no option 'time_limit';",
    do="write timeout=..., in seconds.",
    where=IMPORT,
)
def test_option_of_another_library() -> str:
    def report() -> None: ...

    return declared(report, time_limit=300)


@mistake(
    "A timeout as a `timedelta`",
    says="option 'timeout' must be seconds, more than 0, not a timedelta;",
    do="write 300.",
    where=IMPORT,
)
def test_timeout_as_timedelta() -> str:
    def report() -> None: ...

    return declared(report, timeout=timedelta(minutes=5))


@mistake(
    "A timeout as text",
    says="option 'timeout' must be seconds, more than 0, not '5m';",
    do="write a number, as an int or a float.",
    where=IMPORT,
)
def test_timeout_as_text() -> str:
    def report() -> None: ...

    return declared(report, timeout="5m")


@mistake(
    'The name as `@task("nightly")`',
    says="'nightly' is not a function;",
    do="give a name by name='nightly'.",
    where=IMPORT,
)
def test_name_by_position() -> str:
    return refused(lambda: task("nightly"))  # type: ignore[call-overload]


@mistake(
    "Two tasks of one name",
    says="Two tasks are named 'report':",
    do="Give one of them another name=...",
    where=IMPORT,
)
def test_name_twice() -> str:
    @task
    def report() -> None: ...

    def other() -> None: ...

    return declared(other, name="report")


@mistake(
    "A body with `yield`",
    says="is a generator; a task returns its result.",
    do="Call update_progress() where it yields.",
    where=IMPORT,
)
def test_generator() -> str:
    def report() -> Any:
        yield 50

    return declared(report)


@mistake(
    "A schedule for a task with arguments",
    says="option 'cron' must be on a task that runs without arguments;",
    do="give 'days' a default.",
    where=IMPORT,
)
def test_schedule_with_arguments() -> str:
    def tidy(days: int) -> None: ...

    return declared(tidy, cron="0 3 * * *")


@mistake(
    "`@strawberry.mutation` over `@task_mutation`",
    says="Task 'report' is given to a decorator of Strawberry's as a resolver,",
    do="Leave @strawberry.mutation (or @strawberry.field) out:",
    where=IMPORT,
)
def test_strawberry_mutation_over_a_task() -> str:
    @task_mutation
    def report(root: Any, info: Any, count: int) -> dict[str, int]:
        return {"count": count}

    return refused(lambda: strawberry.mutation(report))


@mistake(
    "`@task_mutation` over `@strawberry.mutation`",
    says="is not a function;",
    do="put @task_mutation in place of @strawberry.mutation, not on top of it.",
    where=IMPORT,
)
def test_a_task_over_strawberry_mutation() -> str:
    @strawberry.mutation
    def report(root: Any, info: strawberry.Info, count: int) -> int:
        return count

    return refused(lambda: task_mutation(report))


@mistake(
    "The class of a task's mutation is not in the settings",
    says="Task 'report' is declared by @task_mutation, and no schema has its mutation.",
    do='add the class\'s dotted path to RAIL_DJANGO_GRAPHQL["schema_settings"]'
    '["mutation_extensions"]',
    where="`manage.py check`",
)
def test_mutation_in_no_schema() -> str:
    @task_mutation
    def report(count: int) -> None: ...

    @strawberry.type
    class TaskMutations:
        make_report = report

    return checked()


@mistake(
    "A field of one name in two types",
    says="the field 'report' is declared by shop.TaskMutations and shop.MoreMutations;",
    do="rename one of them.",
    where="`manage.py check`",
)
def test_field_name_is_taken(monkeypatch: pytest.MonkeyPatch) -> str:
    @task_mutation
    def report(count: int) -> None: ...

    module(monkeypatch, "shop")
    for name in ("TaskMutations", "MoreMutations"):
        made = type(name, (), {"report": report, "__module__": "shop"})
        setattr(sys.modules["shop"], name, strawberry.type(made))
    paths = ["shop.TaskMutations", "shop.MoreMutations"]
    return checked(schema={"mutation_extensions": paths})
