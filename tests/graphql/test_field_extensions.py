"""`extensions=` of a declaration: Strawberry's field extensions around the start of a task."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import strawberry
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Permission, User
from django.test import AsyncClient, Client
from strawberry.extensions.field_extension import FieldExtension
from strawberry.tools import merge_types
from strawberry_django.permissions import HasPerm, IsAuthenticated, IsStaff, IsSuperuser

from rail_async_tasks import TaskDeclarationError, task_mutation
from rail_async_tasks.auth.field_extensions import arun, run
from rail_async_tasks.graphql import Mutation, Query, TaskSchema
from rail_async_tasks.models import TaskExecution
from tests.graphql.own_views import EVERY_WAY, SYNC_VIEWS, ask
from tests.projects import shop
from tests.support.api import Configure
from tests.support.rude import ERRORS
from tests.support.waiting import TIMEOUT

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


class Plain(FieldExtension):
    """Has no `resolve_async`, and asks nothing."""

    def resolve(self, next_: Any, source: Any, info: Any, **kwargs: Any) -> Any:
        return next_(source, info, **kwargs)


class Through(FieldExtension):
    """Has no `resolve`, and asks nothing."""

    async def resolve_async(self, next_: Any, source: Any, info: Any, **kwargs: Any) -> Any:
        return await next_(source, info, **kwargs)


class Rude(FieldExtension):
    """Raises what a test wants."""

    error: type[BaseException] | None = None

    def fall(self) -> None:
        if Rude.error is not None:
            raise Rude.error("rude")


class RudePlain(Rude):
    def resolve(self, next_: Any, source: Any, info: Any, **kwargs: Any) -> Any:
        self.fall()
        return next_(source, info, **kwargs)


class RudeAsync(Rude):
    async def resolve_async(self, next_: Any, source: Any, info: Any, **kwargs: Any) -> Any:
        self.fall()
        return await next_(source, info, **kwargs)


class RudeArguments(Rude):
    def map_arguments(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        self.fall()
        return kwargs


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


@task_mutation(name="ext.rude_plain", extensions=[RudePlain()])
async def rude_plain(amount: int) -> int:
    return amount


@task_mutation(name="ext.rude_async", extensions=[RudeAsync()])
async def rude_async(amount: int) -> int:
    return amount


@task_mutation(name="ext.rude_arguments", extensions=[RudeArguments()])
async def rude_arguments(amount: int) -> int:
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
    rude_plain = rude_plain
    rude_async = rude_async
    rude_arguments = rude_arguments


TYPES: Any = {"query": Query, "mutation": merge_types("Mutation", (Mutation, Tasks))}
SCHEMAS = {"strawberry.Schema": strawberry.Schema(**TYPES), "TaskSchema": TaskSchema(**TYPES)}
each_way = pytest.mark.parametrize("way", EVERY_WAY)
each_schema = pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)


@pytest.fixture
def ann(configure: Configure, database: object) -> User:
    configure(backend="sync")
    calls.clear()
    Rude.error = None
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


# --- extensions that raise ------------------------------------------------------------------------


def call_rude(field: str, error: type[BaseException] | None) -> str:
    """The mutation; `error` is what its extension raises."""
    Rude.error = error
    return f"mutation {{ {field}(amount: 3) {{ taskId task {{ result }} }} }}"


@pytest.mark.covering("way", "field", "error")
@ONE_DATABASE
@each_way
@pytest.mark.parametrize("field", ["rudePlain", "rudeAsync", "rudeArguments"])
@pytest.mark.parametrize("error", ERRORS)
async def test_one_that_raises_refuses_its_start_alone(
    ann: User, way: str, field: str, error: type[BaseException]
) -> None:
    """The request is answered, with a code and nothing of the error; the next one starts."""
    schema = SCHEMAS["TaskSchema"]
    async with asyncio.timeout(TIMEOUT):
        answer = await ask(way, schema, call_rude(field, error), ann)
    assert answer["data"] == {field: None}
    (refusal,) = answer["errors"]
    assert "rude" not in refusal["message"]
    assert await TaskExecution.objects.acount() == 0
    assert started(await ask(way, schema, call_rude(field, None), ann), field) == 3


@pytest.mark.covering("way", "field", "error")
@ONE_DATABASE
@pytest.mark.parametrize("way", ["TaskGraphQLView", "GraphQLView", "REST", "REST on WSGI"])
@pytest.mark.parametrize("field", ["rudePlain", "rudeAsync"])
@pytest.mark.parametrize("error", ERRORS)
async def test_one_that_raises_refuses_a_retry(
    ann: User, way: str, field: str, error: type[BaseException]
) -> None:
    """Over GraphQL and over REST, which asks without an operation."""
    schema = SCHEMAS["TaskSchema"]
    id_ = (await ask("TaskGraphQLView", schema, call_rude(field, None), ann))["data"][field][
        "taskId"
    ]
    Rude.error = error
    async with asyncio.timeout(TIMEOUT):
        if way.startswith("REST"):
            client: Any = AsyncClient() if way == "REST" else Client()
            await sync_to_async(client.force_login)(ann)
            post = client.post if way == "REST" else sync_to_async(client.post)
            response = await post(f"/api/v1/tasks/{id_}/retry/")
            assert (response.status_code, response.json()["error"]["code"]) == (
                500,
                "INTERNAL_ERROR",
            )
        else:
            again = f'mutation {{ retryTask(id: "{id_}") {{ task {{ result }} }} }}'
            answer = await ask(way, schema, again, ann)
            assert (answer["data"], len(answer["errors"])) == ({"retryTask": None}, 1)
    assert await TaskExecution.objects.acount() == 1


@ONE_DATABASE
async def test_a_request_that_is_cancelled_is_no_error_of_an_extension(
    ann: User,
) -> None:
    """While the start is in the thread of a plain extension: the client has gone."""
    entered = asyncio.Event()

    async def start(source: Any, info: Any, **values: Any) -> None:
        entered.set()
        await asyncio.Event().wait()

    for extension in (SyncOnly(), AsyncOnly()):
        entered.clear()
        asked = asyncio.create_task(arun([extension, Through()], start, None, None, {}))
        await asyncio.wait_for(entered.wait(), TIMEOUT)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(asked, TIMEOUT)


@pytest.mark.parametrize("argument", ["resolve", "resolve_async", "extension"])
async def test_arguments_have_names_of_their_own(argument: str) -> None:
    """Whatever ours are called."""

    async def start(source: Any, info: Any, **values: Any) -> Any:
        return values

    given = {argument: 3}
    assert await arun([Through(), Plain()], start, None, None, given) == given
    answer = await sync_to_async(run)(
        [Through(), Plain()], lambda source, info, **values: values, None, None, given
    )
    assert answer == given
