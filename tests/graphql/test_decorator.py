"""`@task_mutation`: a task that is a field wherever a class has it, and stays a task."""

from __future__ import annotations

import copy
from typing import Annotated, Any

import pytest
import strawberry
from strawberry.tools import merge_types

from rail_async_tasks import Task, TaskDeclarationError, task, task_mutation
from rail_async_tasks.graphql.decorator import MutationField, MutationTask
from tests.projects import shop
from tests.support.api import Api

ONE_DATABASE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


def field_of(type_: Any, name: str) -> MutationField:
    (found,) = [f for f in type_.__strawberry_definition__.fields if f.python_name == name]
    assert isinstance(found, MutationField)
    return found


def test_the_modules_object_stays_the_task() -> None:
    """Being an attribute of three classes' worth of fields changes nothing about it."""
    assert isinstance(shop.add, MutationTask)
    assert (shop.add.name, shop.pack.name) == ("add", "shop.pack")
    assert shop.add.definition.options.description == "Add two numbers."
    assert shop.pack.definition.options.description == "Pack a box."
    assert shop.add.__doc__ == "Add two numbers."


def test_each_class_and_each_name_gets_a_field_of_its_own() -> None:
    """One field object in two places would lose one of its names."""
    add = field_of(shop.TaskMutations, "add")
    plus = field_of(shop.TaskMutations, "plus")
    again = field_of(shop.MoreMutations, "add_again")
    assert len({id(add), id(plus), id(again)}) == 3
    assert add.definition is plus.definition is again.definition is shop.add.definition


def test_merged_types_keep_every_field() -> None:
    """merge_types() of both types has all names, each starting the same task."""
    merged = merge_types("Merged", (shop.TaskMutations, shop.MoreMutations))
    for name in ("add", "plus", "add_again"):
        assert field_of(merged, name).definition is shop.add.definition


def test_a_copied_field_knows_its_task() -> None:
    """Strawberry copies fields; the copy is as good."""
    field = field_of(shop.TaskMutations, "restock")
    copied = copy.copy(field)
    assert copied.definition is field.definition
    assert copied.permission_classes == field.permission_classes == [shop.IsStaff]
    assert [a.python_name for a in copied.arguments] == ["amount"]
    assert copied.extensions == field.extensions
    assert copied.description == field.description


@task_mutation()
async def called_empty() -> int:
    return 1


@task_mutation
def annotated(
    count: Annotated[int, strawberry.argument(name="howMany", description="How many.")] = 1,
) -> int:
    return count


@strawberry.type
class Corners:
    called_empty = called_empty
    annotated = annotated

    @task_mutation(name="inside a class".replace(" ", "_"))
    async def inside(self, info: Any, what: str) -> str:
        """Declared where it is used."""
        return what


@strawberry.type
class NoQuery:
    nothing: int = 0


def test_corner_cases_of_a_declaration() -> None:
    """Called without options, `Annotated` arguments, declared in the class itself."""
    sdl = str(strawberry.Schema(query=NoQuery, mutation=Corners))
    assert "calledEmpty: TaskMutationPayload" in sdl
    assert '"""How many."""\n    howMany: Int! = 1' in sdl
    assert "inside(what: String!): TaskMutationPayload" in sdl
    assert '"""Declared where it is used."""' in sdl


def test_a_second_task_of_the_name_is_refused() -> None:
    """Names are unique in a process, whichever decorator declares them."""

    async def add() -> None: ...

    for decorator in (task, task_mutation):
        with pytest.raises(TaskDeclarationError, match="Two tasks are named 'add'"):
            decorator(add)


def test_a_bad_declaration_fails_when_it_is_made() -> None:
    """A declaration that cannot work fails at import, not at the first request."""
    with pytest.raises(TaskDeclarationError, match="retry_dely"):
        task_mutation(retry_dely=3)(shop.add.definition.function)  # type: ignore[call-overload]

    with pytest.raises(TaskDeclarationError, match="has no type"):

        @task_mutation
        async def untyped(x) -> None: ...  # type: ignore[no-untyped-def]


def test_a_task_that_is_no_mutation_stays_out_of_classes() -> None:
    """`@task` makes no field."""

    @strawberry.type
    class Holder:
        number: int = 1
        sweep = shop.sweep

    assert isinstance(Holder.sweep, Task)
    assert [f.python_name for f in Holder.__strawberry_definition__.fields] == ["number"]  # type: ignore[attr-defined]


@ONE_DATABASE
async def test_arguments_arrive_as_python_values(api: Api, database: object) -> None:
    """Input types, enums and UUIDs are what the annotations say; what was left out stays so."""
    answer = await api.send(
        "mutation($box: Box!, $order: UUID) { pack(box: $box, size: LARGE, order: $order)"
        " { status error task { result } } }",
        {"box": {"width": 3}, "order": "0193b1a4-7c1e-7000-8000-000000000001"},
    )
    assert answer["data"]["pack"]["error"] is None
    assert answer["data"]["pack"]["task"]["result"] == {
        "width": 3,
        "label": None,
        "unset": True,
        "size": "LARGE",
        "order": "0193b1a4-7c1e-7000-8000-000000000001",
    }


@ONE_DATABASE
async def test_defaults_are_the_functions(api: Api, database: object) -> None:
    """An argument left out takes the function's default; null stays null."""
    answer = await api.send("mutation { add(a: 1) { task { result } } }")
    assert answer["data"]["add"]["task"]["result"] == 3
    answer = await api.send("mutation { pack(box: {width: 1, label: null}) { task { result } } }")
    result = answer["data"]["pack"]["task"]["result"]
    assert (result["size"], result["order"], result["unset"]) == ("SMALL", "None", False)


@ONE_DATABASE
async def test_permission_classes_are_asked_before_a_task_starts(
    api: Api, database: object
) -> None:
    """They get the request's user and the arguments; a refusal creates nothing."""
    from django.contrib.auth.models import User

    from rail_async_tasks.models import TaskExecution

    answer = await api.send("mutation { restock(amount: 5) { status } add(a: 1) { status } }")
    assert answer["errors"][0]["message"] == "Staff only."
    assert answer["data"] == {"restock": None, "add": {"status": "completed"}}
    assert await TaskExecution.objects.acount() == 1
    user = await User.objects.acreate(username="boss", is_staff=True)
    await api.client.aforce_login(user)
    answer = await api.send("mutation { restock(amount: 5) { task { result ownerId } } }")
    assert answer["data"]["restock"]["task"] == {"result": 5, "ownerId": str(user.pk)}


@ONE_DATABASE
async def test_a_retry_asks_the_permission_classes_again(api: Api, database: object) -> None:
    """A user who may not start the task any more may not retry it either, owner or not."""
    from django.contrib.auth.models import User

    from rail_async_tasks.models import TaskExecution

    user = await User.objects.acreate(username="boss", is_staff=True)
    await api.client.aforce_login(user)
    answer = await api.send("mutation { restock(amount: 5) { taskId } }")
    again = f'mutation {{ retryTask(id: "{answer["data"]["restock"]["taskId"]}") {{ status }} }}'
    await User.objects.filter(pk=user.pk).aupdate(is_staff=False)
    refused = await api.send(again)
    assert refused["errors"][0]["message"] == "Staff only."
    assert await TaskExecution.objects.acount() == 1
    await User.objects.filter(pk=user.pk).aupdate(is_staff=True)
    allowed = await api.send(again)
    assert allowed["data"]["retryTask"] == {"status": "completed"}
