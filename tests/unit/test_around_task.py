"""`around_task` in the `sync` backend, and what the checks say of it."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test import override_settings

from rail_async_tasks import AttemptInfo, Fail, TaskFailed, task
from rail_async_tasks.checks.settings import check_dotted_paths
from rail_async_tasks.registry import registry
from rail_async_tasks.testing import arun_task, run_task
from tests.support import around
from tests.support.around import LIFE, SEEN, declared, heard, look, path

FACTORIES = [
    around.plain, around.in_task, around.Either, around.makes_async, around.made_on_the_loop,
]  # fmt: skip
every_factory = pytest.mark.parametrize("factory", FACTORIES, ids=lambda it: it.__name__)


def using(factory: Any, **task_settings: Any) -> Any:
    chosen = {"backend": "sync", "max_retries": 0, "around_task": path(factory), **task_settings}
    return override_settings(RAIL_DJANGO_GRAPHQL={"task_settings": chosen})


@pytest.fixture(autouse=True)
def declarations_are_the_tests_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks that a test declares are forgotten after it."""
    heard.clear()
    for name in ("_definitions", "coroutine_names", "thread_names"):
        monkeypatch.setattr(registry, name, getattr(registry, name))


@every_factory
@pytest.mark.parametrize("kind", ["coroutine", "thread"])
@pytest.mark.django_db
def test_the_sync_backend_enters_it_too(kind: str, factory: Any) -> None:
    """In the caller's thread and transaction, which are as before afterwards."""
    before = look()
    with using(factory):
        handle = declared(kind).using(tenant_id="north").enqueue()
    assert (handle.status, handle.snapshot.error) == ("completed", None)
    assert handle.result() == [SEEN] * (2 if kind == "coroutine" else 1)
    assert heard == LIFE
    assert look() == before


@pytest.mark.parametrize("kind", ["coroutine", "thread"])
@pytest.mark.django_db
def test_a_plain_manager_may_query_there(kind: str) -> None:
    with using(around.querying):
        assert declared(kind).enqueue().status == "completed"


@pytest.mark.parametrize("kind", ["coroutine", "thread"])
@pytest.mark.parametrize(
    ("factory", "error"),
    [
        (around.refuses, "not today"),
        (around.fails_to_leave, "on the way out"),
        (around.generator, "@contextlib.contextmanager"),
    ],
    ids=lambda it: getattr(it, "__name__", ""),
)
@pytest.mark.django_db
def test_errors_there(kind: str, factory: Any, error: str) -> None:
    """They are the attempt's, on the way in and on the way out."""
    with using(factory), pytest.raises(TaskFailed, match=error):
        declared(kind).enqueue().result()


@every_factory
@pytest.mark.parametrize("kind", ["coroutine", "thread"])
def test_run_task_enters_it(kind: str, factory: Any) -> None:
    """As a real attempt does, and leaves everything as it was."""
    before = look()
    with using(factory):
        run = run_task(declared(kind).using(tenant_id="north"))
    assert run.result == [SEEN] * (2 if kind == "coroutine" else 1)
    assert heard == LIFE
    assert look() == before


@every_factory
@pytest.mark.parametrize("kind", ["coroutine", "thread"])
async def test_arun_task_enters_it(kind: str, factory: Any) -> None:
    """On the test's loop."""
    before = look()
    with using(factory):
        run = await arun_task(declared(kind).using(tenant_id="north"))
    assert run.result == [SEEN] * (2 if kind == "coroutine" else 1)
    assert heard == LIFE
    assert look() == before


@pytest.mark.parametrize("kind", ["coroutine", "thread"])
@pytest.mark.django_db
def test_a_plain_manager_may_query_around_run_task(kind: str) -> None:
    """In the test's own transaction."""
    Group.objects.create(name="of this test")
    with using(around.querying):
        run_task(declared(kind))
    assert heard == [1, "body", 1]


@pytest.mark.parametrize("kind", ["coroutine", "thread"])
def test_run_task_raises_what_the_manager_raises(kind: str) -> None:
    with using(around.refuses), pytest.raises(Fail, match="not today"):
        run_task(declared(kind))
    assert heard == []


def test_run_task_hides_sensitive_arguments_from_the_manager() -> None:
    """It gets the attempt with its owner, tenant, queue and the other arguments."""
    seen: list[AttemptInfo] = []

    @task(name="around.log_in", sensitive=["password"], queue="low")
    def log_in(name: str, password: str) -> None:
        assert password == "hunter2"

    with using(around.noting), pytest.MonkeyPatch.context() as patch:
        patch.setattr(around, "attempts", seen)
        run_task(log_in.using(tenant_id="north", owner=7), name="ann", password="hunter2")
    (attempt,) = seen
    assert dict(attempt.arguments) == {"name": "ann"}
    assert (attempt.name, attempt.attempt) == ("around.log_in", 1)
    assert (attempt.queue, attempt.owner_id, attempt.tenant_id) == ("low", "7", "north")


@pytest.mark.django_db
def test_a_timeout_there() -> None:
    """It counts for the manager too, and the manager leaves."""
    with using(around.enters_for_ever, timeout=0.02):
        handle = declared("coroutine").enqueue()
    assert (handle.status, handle.snapshot.error_code) == ("failed", "timeout")
    assert heard == ["entering", "leave"]


# --- checks --------------------------------------------------------------------------------------


def takes_nothing() -> None: ...


async def yields_in_a_coroutine(info: Any) -> Any:
    yield


@every_factory
def test_the_checks_accept_it(factory: Any) -> None:
    with using(factory):
        assert check_dotted_paths(None) == []


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("tests.support.around.missing", "from tests.support.around import missing"),
        ("tests.support.around.SEEN", "callable"),
        ("tests.support.around.generator", "@contextlib.contextmanager"),
        (f"{__name__}.yields_in_a_coroutine", "@contextlib.asynccontextmanager"),
        (f"{__name__}.takes_nothing", "one argument"),
    ],
)
def test_what_cannot_make_managers_is_an_error(name: str, hint: str) -> None:
    """With the remedy."""
    with using(around.plain, around_task=name):
        [error] = check_dotted_paths(None)
    assert error.id == "rail_async_tasks.E013"
    assert "around_task" in error.msg
    assert hint in str(error.hint)
