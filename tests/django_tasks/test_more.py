"""What a Django task has beyond Django: progress, cancel, owner, GraphQL, transactions, checks."""

from __future__ import annotations

from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser, Group
from django.db import transaction
from django.test import Client, TestCase, override_settings

from rail_async_tasks import ConfigurationError, InvalidArguments, TaskCancelled, service
from rail_async_tasks.access import SYSTEM, Viewer
from rail_async_tasks.contrib.django_tasks import current_task, owned_by
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.registry import registry
from tests.django_tasks import bodies
from tests.django_tasks.api import (
    OURS,
    TASKS,
    InvalidTask,
    TaskResultStatus,
    check_tasks,
    default_task_backend,
    task,
    task_backends,
)
from tests.django_tasks.conftest import Signals, on_sqlite
from tests.django_tasks.results import finished, running
from tests.support.runtimes import Configure
from tests.support.waiting import TIMEOUT


@on_sqlite
def test_a_body_waits_through_a_pool(configure: Configure) -> None:
    """The body has enqueued it; the handle is made in the pool's thread."""
    configure(max_workers=1)
    result = finished(bodies.wait_in_pool.enqueue(TIMEOUT / 2))
    assert result.status == TaskResultStatus.SUCCESSFUL, result.errors
    assert result.return_value == {"args": [1], "kwargs": {}}


@on_sqlite
@pytest.mark.usefixtures("configure")
class TestTheRunningTask:
    """`current_task()`, for functions without a context."""

    def test_progress(self, backend: str) -> None:
        result = finished(bodies.report_without_context.enqueue())
        assert result.return_value == 1
        snapshot = result.handle.snapshot
        assert (snapshot.progress, snapshot.progress_message) == (100, "some")

    def test_it_is_forgotten_after_the_body(self, configure: Configure) -> None:
        """Also under `sync`, where the body runs in its caller's context."""
        configure(backend="sync")
        bodies.report_without_context.enqueue()
        assert current_task().name == ""

    def test_elsewhere_its_progress_goes_nowhere(self, settings: Any) -> None:
        """Under another backend, or called by a test, the same function runs."""
        assert bodies.report_without_context.call() == 1
        settings.TASKS = {"default": {"BACKEND": _IMMEDIATE}}
        assert bodies.report_without_context.enqueue().return_value == 1
        with pytest.raises(ValueError, match="101"):
            current_task().update_progress(101)

    def test_a_running_task_is_cancelled(self, configure: Configure) -> None:
        configure(backend="thread")
        result = running(bodies.wait.enqueue())
        result.handle.cancel()
        assert finished(result).status == TaskResultStatus.FAILED
        assert result.errors[0].exception_class is TaskCancelled
        with pytest.raises(TaskCancelled):
            result.handle.result()

    def test_a_result_can_be_waited_for(self, configure: Configure) -> None:
        configure(backend="thread")
        assert bodies.echo.enqueue(1).handle.result(TIMEOUT) == {"args": [1], "kwargs": {}}


_IMMEDIATE = (
    "django.tasks.backends.immediate.ImmediateBackend"
    if type(task_backends).__module__.startswith("django.tasks")
    else "django_tasks.backends.immediate.ImmediateBackend"
)


@on_sqlite
@pytest.mark.usefixtures("configure")
class TestOwners:
    """Without one the anonymous rules hold."""

    def test_a_block_gives_its_tasks_an_owner(self, backend: str) -> None:
        """And a tenant; the innermost block counts."""
        user = None if backend == "memory" else get_user_model().objects.create(username="ada")
        owner = "7" if user is None else user
        with owned_by(owner, tenant_id=3):
            mine = bodies.echo.enqueue()
            with owned_by(AnonymousUser()):
                unowned = bodies.echo.enqueue()
        others = bodies.echo.enqueue()
        owner_id = "7" if user is None else str(user.pk)
        assert mine.handle.snapshot.owner_id == owner_id
        assert mine.handle.snapshot.tenant_id == "3"
        assert unowned.handle.snapshot.owner_id is None
        assert others.handle.snapshot.owner_id is None
        assert [it.id for it in service.list_(Viewer(owner_id, "3"))] == [mine.handle.id]
        for result in (mine, unowned, others):
            finished(result)

    def test_the_body_has_its_owner(self, configure: Configure) -> None:
        configure(backend="sync")
        user = get_user_model().objects.create(username="ada")
        with owned_by(user, tenant_id="acme"):
            result = bodies.report.enqueue()
        assert result.return_value[:2] == [str(user), "acme"]

    @pytest.mark.parametrize("owner", [object(), True, ""])
    def test_what_is_no_user_is_refused(self, owner: Any) -> None:
        """Its tasks would be open to every caller who knows their ids."""
        with pytest.raises(InvalidArguments, match="owner"), owned_by(owner):
            pass

    def test_graphql_and_rest_read_and_retry(self, configure: Configure) -> None:
        """Like any task, under its module path."""
        configure(backend="sync")
        result = bodies.echo.enqueue(1)
        client = Client()
        query = "query Q($id: ID!) { task(id: $id) { name status result progress } }"
        sent = {"query": query, "variables": {"id": result.id}}
        answer = client.post("/graphql/", sent, content_type="application/json")
        assert answer.json()["data"]["task"] == {
            "name": "tests.django_tasks.bodies.echo", "status": "completed", "progress": 100,
            "result": {"args": [1], "kwargs": {}},
        }  # fmt: skip
        rest = client.get(f"/api/v1/tasks/{result.id}/").json()
        assert rest["status"] == "completed"
        again = service.retry(SYSTEM, result.id)
        assert default_task_backend.get_result(str(again.id)).args == [1]


@on_sqlite
@pytest.mark.usefixtures("configure")
class TestTransactions:
    """One commit; nothing starts before it."""

    def test_a_task_sees_the_commit_that_enqueued_it(self, configure: Configure) -> None:
        """The row of Django's own example is there, with `on_commit()` and without."""
        configure(backend="thread")
        with transaction.atomic():
            result = bodies.count_groups.enqueue()
            assert result.status == TaskResultStatus.READY
            Group.objects.create(name="g")
        assert finished(result).return_value == 1
        later: list[Any] = []
        with transaction.atomic():
            transaction.on_commit(lambda: later.append(bodies.count_groups.enqueue()))
        assert finished(later[0]).return_value == 1

    def test_a_rollback_takes_the_task_with_it(self, configure: Configure) -> None:
        configure(backend="thread")
        with transaction.atomic():
            result = bodies.echo.enqueue()
            transaction.set_rollback(True)
        assert not TaskExecution.objects.filter(id=result.id).exists()

    def test_the_signal_is_sent_at_once(self, configure: Configure, signals: Signals) -> None:
        """As `enqueue()` returns; its receiver is in the transaction too."""
        configure(backend="thread")
        with transaction.atomic():
            result = bodies.echo.enqueue()
            assert [name for name, _ in signals] == ["enqueued READY"]
        finished(result)


class TestInATestCase(TestCase):
    """`sync` runs tasks inside Django's test cases."""

    @override_settings(TASKS=TASKS, RAIL_DJANGO_GRAPHQL={"task_settings": {"backend": "sync"}})
    def test_it_runs(self) -> None:
        Group.objects.create(name="g")
        assert bodies.count_groups.enqueue().return_value == 1
        assert bodies.refuse.enqueue().status == TaskResultStatus.FAILED
        assert TaskExecution.objects.count() == 2


@on_sqlite
@pytest.mark.usefixtures("configure")
class TestOptions:
    """OPTIONS of an alias, and keywords of `@task`."""

    def found(self, settings: Any, **params: Any) -> list[Any]:
        settings.TASKS = {"default": {"BACKEND": OURS, **params}}
        return list(task_backends["default"].check())

    def test_right_ones_have_no_problem(self, settings: Any) -> None:
        options = {
            "max_retries": 3, "retry_delay": 5, "retry_backoff": False, "timeout": 60,
            "rerun_on_crash": False, "track_progress": False,
        }  # fmt: skip
        assert self.found(settings, OPTIONS=options, QUEUES=["a", "b"]) == []

    @pytest.mark.parametrize(
        ("params", "words"),
        [
            ({"OPTIONS": {"retries": 3}}, "has no option 'retries'; there are max_retries"),
            ({"OPTIONS": {"max_retries": -1}}, "option 'max_retries' must be a whole number"),
            ({"OPTIONS": []}, "must be a dict"),
            ({"QUEUES": [5]}, "must be text"),
        ],
    )
    def test_wrong_ones_are_reported(self, settings: Any, params: Any, words: str) -> None:
        """By `manage.py check`, by Django's own check of TASKS."""
        (problem,) = self.found(settings, **params)
        assert problem.id == "rail_async_tasks.E030"
        assert words in problem.msg
        assert problem.hint

    def test_the_app_must_be_installed(
        self, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(apps, "is_installed", lambda name: False)
        assert [it.id for it in self.found(settings)] == ["rail_async_tasks.E031"]

    def test_declaring_raises_for_no_wrong_setting(self, settings: Any) -> None:
        """Starting does."""
        self.found(settings, OPTIONS={"retries": 3})
        declared = task(bodies.plain)
        with pytest.raises(ConfigurationError, match="retries"):
            declared.enqueue()

    def test_djangos_check_asks_the_backend(self, settings: Any) -> None:
        """Every alias, in `manage.py check`."""
        self.found(settings, OPTIONS={"retries": 3})
        assert [it.id for it in check_tasks(None)] == ["rail_async_tasks.E030"]

    def test_they_reach_the_definition(self) -> None:
        """Those of the decorator go before those of the alias."""
        declared = task(backend="patient", timeout=9, max_retries=1)(bodies.plain)
        options = registry.get("tests.django_tasks.bodies.plain").options  # type: ignore[union-attr]
        assert (options.max_retries, options.timeout, options.retry_delay) == (1, 9, 0.01)
        assert declared.using(priority=3).timeout == 9

    def test_a_wrong_keyword_is_an_invalid_task(self) -> None:
        with pytest.raises(InvalidTask, match="timeout"):
            task(timeout=-1)(bodies.plain)
        with pytest.raises(TypeError):
            task(retries=1)(bodies.plain)

    def test_two_tasks_of_one_function(self, configure: Configure) -> None:
        """Are one name for us."""
        configure(backend="sync")
        slow = task(queue_name="mail")(bodies.plain)
        fast = task(bodies.plain)
        assert slow.enqueue(1).return_value == fast.enqueue(1).return_value == 1
        assert set(TaskExecution.objects.values_list("name", "queue")) == {
            ("tests.django_tasks.bodies.plain", "mail"),
            ("tests.django_tasks.bodies.plain", "default"),
        }
