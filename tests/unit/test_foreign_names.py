"""Names of other task libraries: each has a remedy that works, and objects stay what they are."""

from __future__ import annotations

import copy
import doctest
import inspect
import pickle
import re
from datetime import UTC, datetime
from importlib import import_module
from types import ModuleType
from typing import Any
from uuid import uuid4

import pytest
import strawberry

from rail_async_tasks import Task, TaskDeclarationError, TaskHandle, task
from rail_async_tasks.declare import BoundTask
from rail_async_tasks.foreign_names import (
    OF_CONTEXTS,
    OF_HANDLES,
    OF_RUNNING_TASKS,
    OF_SNAPSHOTS,
    OF_TASKS,
    Remedies,
)
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.runtime.attempts.context import ExecutionContext, TaskContext
from rail_async_tasks.snapshot import TaskSnapshot
from tests.support.runtimes import declarations_are_the_tests_own

__all__ = ["declarations_are_the_tests_own"]

TABLES = [
    (OF_TASKS, Task),
    (OF_TASKS, BoundTask),
    (OF_HANDLES, TaskHandle),
    (OF_RUNNING_TASKS, TaskContext),
    (OF_CONTEXTS, ExecutionContext),
]


def _work(count: int) -> int:
    """Count.

    >>> 1 + 1
    2
    """
    return count


@pytest.fixture
def work() -> Task:
    return task(_work)


def names_of(kind: type) -> set[str]:
    return set(dir(kind)) | set(getattr(kind, "__struct_fields__", ()))


@pytest.mark.parametrize(("table", "kind"), TABLES)
def test_remedies_name_what_is_there(table: Remedies, kind: type) -> None:
    """And a name with a remedy is not there."""
    for name, remedy in table.items():
        assert name not in names_of(kind)
        for attribute in re.findall(r"\{it\}\.(\w+)", remedy):
            assert attribute in names_of(kind)
        for module, attribute in re.findall(r"(rail_async_tasks(?:\.\w+)*)\.(\w+)\(", remedy):
            assert hasattr(import_module(module), attribute)
        assert "{" not in remedy.format(it="it")


def test_every_attribute_of_a_snapshot_is_found_by_its_handle() -> None:
    """`handle.progress` says where it is; what a handle has of its own needs no remedy."""
    public = {name for name in dir(TaskSnapshot) if not name.startswith("_")}
    assert set(OF_SNAPSHOTS) == public - names_of(TaskHandle)
    at = datetime.now(UTC)
    handle = TaskHandle(
        TaskSnapshot(
            id=uuid4(), name="x", status="running", queue="default", created_at=at, updated_at=at
        )
    )
    with pytest.raises(AttributeError, match=r"Read handle\.snapshot\.progress: as it was"):
        handle.progress  # type: ignore[attr-defined]  # noqa: B018
    for name in OF_SNAPSHOTS:
        getattr(handle.snapshot, name)


@pytest.mark.parametrize("given", ["0199c0de", uuid4(), None, TaskExecution(), {"id": 3}])
def test_a_handle_is_made_of_nothing_but_a_snapshot(given: object) -> None:
    """An id passes for one until the first attribute is read."""
    with pytest.raises(TypeError, match=r"enqueue\(\) and aenqueue\(\) return one"):
        TaskHandle(given)  # type: ignore[arg-type]


def test_an_attribute_that_is_not_there_stays_an_attribute_error(work: Task) -> None:
    """`hasattr` is false, `getattr` takes its default, and Python suggests a name."""
    for it in (work, work.using(queue="low")):
        assert not hasattr(it, "delay")
        assert not hasattr(it, "enqeue")
        assert getattr(it, "delay", None) is None
        with pytest.raises(AttributeError) as error:
            it.enqeue  # type: ignore[attr-defined]  # noqa: B018
        assert (error.value.name, error.value.obj) == ("enqeue", it)


def test_tasks_are_copied_and_inspected_as_before(work: Task) -> None:
    """These ask for attributes of objects that are not made yet."""
    bound = work.using(queue="low")
    assert copy.copy(work).name == copy.deepcopy(work).name == "_work"
    assert copy.copy(bound).keywords == {"queue": "low"}
    assert inspect.unwrap(work) is _work  # type: ignore[arg-type]
    assert str(inspect.signature(work)) == "(count: 'int') -> 'int'"
    assert Task.__new__(Task).__class__ is Task
    with pytest.raises(AttributeError, match=r"Start the task by task\.enqueue"):
        Task.__new__(Task).delay  # type: ignore[attr-defined]  # noqa: B018


def test_a_handle_is_pickled() -> None:
    """Its only attribute is missing while it is unpickled."""
    handle: Any = TaskHandle.__new__(TaskHandle)
    handle._snapshot = {"id": 3}
    assert pickle.loads(pickle.dumps(handle))._snapshot == {"id": 3}
    assert copy.copy(handle)._snapshot == {"id": 3}


def test_doctest_finds_the_examples_of_a_task(work: Task) -> None:
    """It looks at wrapped functions."""
    module = ModuleType("shop_tasks")
    module.work = work  # type: ignore[attr-defined]
    work.__module__ = "shop_tasks"
    found = doctest.DocTestFinder(exclude_empty=True).find(work, "work", module=False)
    assert [len(it.examples) for it in found] == [1]


def test_a_task_is_no_resolver(work: Task) -> None:
    """In no form of Strawberry's decorators; functions are, as ever."""
    for make in (
        lambda: strawberry.field(resolver=work),
        lambda: strawberry.field(work),
        lambda: strawberry.mutation(resolver=work),
        lambda: strawberry.mutation()(work),
    ):
        with pytest.raises(TaskDeclarationError, match="'_work' is given to a decorator"):
            make()

    @strawberry.type
    class Query:
        @strawberry.field
        @staticmethod
        def count() -> int:
            return 3

    assert strawberry.Schema(query=Query).execute_sync("{ count }").data == {"count": 3}
