"""`extensions=` of a declaration: Strawberry's field extensions around the start of a task."""

from __future__ import annotations

from typing import Any

import pytest
import strawberry
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Permission, User
from django.test import AsyncClient
from strawberry.extensions.field_extension import FieldExtension
from strawberry.tools import merge_types
from strawberry_django.permissions import HasPerm, IsAuthenticated, IsStaff, IsSuperuser

from rail_async_tasks import TaskDeclarationError, task_mutation
from rail_async_tasks.graphql import Mutation, Query, TaskSchema
from tests.graphql.own_views import EVERY_WAY, SYNC_VIEWS, ask
from tests.projects import shop
from tests.support.api import Configure

ONE_DATABASE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
VIEW_USERS = "auth.view_user"
calls: list[str] = []


class SyncOnly(FieldExtension):
    """Has no `resolve_async`; it may block."""

    def resolve(self, next_: Any, source: Any, info: Any, **kwargs: Any) -> Any:
        calls.append("sync only")
        User.objects.count()  # refused on an event loop
        return next_(source, info, **kwargs)


class AsyncOnly(FieldExtension):
    """Has no `resolve`."""

    async def resolve_async(self, next_: Any, source: Any, info: Any, **kwargs: Any) -> Any:
        calls.append("async only")
        return await next_(source, info, **kwargs)


class Doubles(FieldExtension):
    """Changes an argument."""

    def map_arguments(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        return {**kwargs, "amount": kwargs["amount"] * 2}


@task_mutation(name="ext.members", extensions=[IsAuthenticated(fail_silently=False)])
async def members(amount: int) -> int:
    """For those who are logged in."""
    return amount


@task_mutation(name="ext.silent", extensions=[IsAuthenticated()])
async def silent(amount: int) -> int:
    return amount


@task_mutation(name="ext.staff", extensions=[IsStaff(fail_silently=False)])
async def staff(amount: int) -> int:
    return amount


@task_mutation(name="ext.root", extensions=[IsSuperuser(fail_silently=False)])
def root(amount: int) -> int:
    return amount


@task_mutation(name="ext.perm", extensions=[HasPerm(VIEW_USERS, fail_silently=False)])
async def perm(amount: int) -> int:
    return amount


@task_mutation(name="ext.mixed", extensions=[SyncOnly(), AsyncOnly(), Doubles()])
async def mixed(amount: int) -> int:
    return amount


@task_mutation(name="ext.both", permission_classes=[shop.IsStaff], extensions=[HasPerm(VIEW_USERS)])
async def both(amount: int) -> int:
    return amount


@strawberry.type
class Tasks:
    members = members
    silent = silent
    staff = staff
    root = root
    perm = perm
    mixed = mixed
    both = both


TYPES: Any = {"query": Query, "mutation": merge_types("Mutation", (Mutation, Tasks))}
SCHEMAS = {"strawberry.Schema": strawberry.Schema(**TYPES), "TaskSchema": TaskSchema(**TYPES)}
each_way = pytest.mark.parametrize("way", EVERY_WAY)
each_schema = pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)


@pytest.fixture
def ann(configure: Configure, database: object) -> User:
    configure(backend="sync")
    calls.clear()
    return User.objects.create(username="ann")


def started(answer: Any, field: str) -> Any:
    """The result of the task that an answer says was started."""
    assert "errors" not in answer, answer
    return answer["data"][field]["task"]["result"]


def call(field: str) -> str:
    return f"mutation {{ {field}(amount: 3) {{ task {{ result }} }} }}"


def refused(answer: Any, field: str) -> str:
    """The message of the one error; no task was started."""
    assert answer["data"] == {field: None}
    (error,) = answer["errors"]
    assert error["extensions"] == {"code": "FORBIDDEN"}
    return str(error["message"])


@pytest.mark.covering("way", "schema")
@ONE_DATABASE
@each_way
@each_schema
async def test_strawberry_django_s_permissions(
    way: str, schema: strawberry.Schema, ann: User
) -> None:
    """Each lets the right users start, and refuses the others with its words and a code."""
    assert refused(await ask(way, schema, call("members")), "members") == (
        "User is not authenticated."
    )
    assert started(await ask(way, schema, call("members"), ann), "members") == 3

    assert refused(await ask(way, schema, call("staff"), ann), "staff") == (
        "User is not a staff member."
    )
    assert "superuser" in refused(await ask(way, schema, call("root"), ann), "root")
    assert "permission" in refused(await ask(way, schema, call("perm"), ann), "perm")

    ann.is_staff = ann.is_superuser = True
    await ann.asave()
    ann = await User.objects.aget(pk=ann.pk)  # permissions are kept in the object
    for field in ("staff", "root", "perm"):
        assert started(await ask(way, schema, call(field), ann), field) == 3


@ONE_DATABASE
@each_way
async def test_a_permission_in_the_database(way: str, ann: User) -> None:
    """`HasPerm` queries, in a thread on an event loop, without one where it stands."""
    right = await Permission.objects.aget(codename="view_user")
    await ann.user_permissions.aadd(right)
    assert started(await ask(way, SCHEMAS["TaskSchema"], call("perm"), ann), "perm") == 3


@ONE_DATABASE
@each_way
async def test_by_default_they_refuse_with_null(way: str, ann: User) -> None:
    """As on strawberry-django's own nullable fields."""
    answer = await ask(way, SCHEMAS["strawberry.Schema"], call("silent"))
    assert answer["data"] == {"silent": None}
    assert not answer.get("errors")
    assert started(await ask(way, SCHEMAS["strawberry.Schema"], call("silent"), ann), "silent") == 3


@ONE_DATABASE
@each_way
async def test_extensions_of_one_form_only(way: str, ann: User) -> None:
    """Each runs in every execution, and arguments are reshaped; the last one is outermost."""
    assert started(await ask(way, SCHEMAS["TaskSchema"], call("mixed"), ann), "mixed") == 6
    assert calls == ["async only", "sync only"]


@ONE_DATABASE
@pytest.mark.parametrize("way", ["TaskGraphQLView", "GraphQLView", "TaskGraphQLConsumer"])
async def test_permission_classes_are_asked_first(way: str, ann: User) -> None:
    """Then the extensions; both must agree."""
    answer = await ask(way, SCHEMAS["TaskSchema"], call("both"), ann)
    assert answer["errors"][0]["message"] == "Staff only."
    ann.is_staff = True
    answer = await ask(way, SCHEMAS["TaskSchema"], call("both"), ann)
    assert answer["data"] == {"both": None}  # silently


@ONE_DATABASE
@each_way
async def test_they_are_asked_at_a_retry_too(way: str, ann: User) -> None:
    """Of a task that its owner may see, but may not start any more."""
    schema = SCHEMAS["TaskSchema"]
    for field, is_silent in (("staff", False), ("both", True)):
        ann.is_staff = ann.is_superuser = True
        await ann.asave()
        query = f"mutation {{ {field}(amount: 3) {{ taskId }} }}"
        id_ = (await ask("TaskGraphQLView", schema, query, ann))["data"][field]["taskId"]
        again = f'mutation {{ retryTask(id: "{id_}") {{ task {{ result }} }} }}'
        assert started(await ask("TaskGraphQLView", schema, again, ann), "retryTask") == 3
        ann.is_superuser = False
        ann.is_staff = is_silent
        await ann.asave()
        ann = await User.objects.aget(pk=ann.pk)  # permissions are kept in the object
        if is_silent and way not in ("AsyncGraphQLView", "TaskGraphQLView", "GraphQLView"):
            continue  # the shop's permission class reads `info.context.request`
        answer = await ask(way, schema, again, ann)
        if is_silent:
            assert answer["data"] == {"retryTask": None}
        else:
            assert refused(answer, "retryTask") == "User is not a staff member."


@ONE_DATABASE
async def test_rest_asks_them_at_a_retry(ann: User) -> None:
    """A silent refusal is a 403 there too."""
    client = AsyncClient()
    await sync_to_async(client.force_login)(ann)
    for declared in (staff, perm, both):
        handle = await declared.using(owner=ann).aenqueue(amount=1)
        response = await client.post(f"/api/v1/tasks/{handle.id}/retry/")
        assert response.status_code == 403, response.content
        assert response.json()["error"]["code"] == "FORBIDDEN"
    ann.is_staff = ann.is_superuser = True
    await ann.asave()
    handle = await both.using(owner=ann).aenqueue(amount=1)
    response = await client.post(f"/api/v1/tasks/{handle.id}/retry/")
    assert response.status_code == 201


@ONE_DATABASE
def test_a_sync_start_stays_in_its_thread(ann: User) -> None:
    """So the task is part of the transaction of the view, as under `ATOMIC_REQUESTS`."""
    from django.db import transaction

    from rail_async_tasks.models import TaskExecution
    from tests.graphql.own_views import ask_sync

    seen: list[int] = []
    for way in SYNC_VIEWS:
        with transaction.atomic():
            assert started(ask_sync(way, SCHEMAS["TaskSchema"], call("mixed"), ann), "mixed") == 6
            seen.append(TaskExecution.objects.count())
            transaction.set_rollback(True)
        assert TaskExecution.objects.count() == 0
    assert seen == [1] * len(SYNC_VIEWS)


def test_the_schema_shows_their_directives() -> None:
    """As on a field of the project's."""
    sdl = str(SCHEMAS["TaskSchema"])
    assert "members(amount: Int!): TaskMutationPayload @isAuthenticated" in sdl


@pytest.mark.parametrize("wrong", [IsAuthenticated, [IsAuthenticated], "auth", [3]])
def test_a_wrong_option_is_refused_at_import(wrong: Any) -> None:
    """With what it takes."""
    with pytest.raises(TaskDeclarationError, match=r"'extensions' must be a list of .* instances"):

        @task_mutation(name="ext.wrong", extensions=wrong)
        async def declared() -> None: ...


@ONE_DATABASE
async def test_python_is_not_asked(ann: User) -> None:
    """`enqueue()` is the project's own code."""
    assert await (await members.aenqueue(amount=1)).aresult(10) == 1
