"""What workers of Celery, Dramatiq and Django-Q look up by name."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from queue import SimpleQueue
from typing import Any

import dramatiq
import pytest
from django.utils.module_loading import import_string
from dramatiq.brokers.stub import StubBroker
from dramatiq.worker import Worker

from rail_async_tasks import workers
from rail_async_tasks.backends import django_q as to_django_q
from rail_async_tasks.backends import dramatiq as to_dramatiq
from rail_async_tasks.backends.celery import CeleryBackend
from rail_async_tasks.backends.django_q import EXECUTE, DjangoQBackend
from rail_async_tasks.backends.dramatiq import DramatiqBackend
from rail_async_tasks.errors import ConfigurationError
from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.dispatch_records import Dispatch
from rail_async_tasks.workers import foreign
from tests.support.waiting import TIMEOUT


class MyCelery(CeleryBackend):
    """A project's own."""


class MyDramatiq(DramatiqBackend):
    """A project's own."""


class MyDjangoQ(DjangoQBackend):
    """A project's own."""


@pytest.fixture
def delivered(monkeypatch: pytest.MonkeyPatch) -> SimpleQueue[Any]:
    """The ids that arrive in this process, which neither starts nor ends a runtime."""
    found: SimpleQueue[Any] = SimpleQueue()
    monkeypatch.setattr(foreign, "deliver", found.put)
    for name in ("start_soon", "begin_to_end"):
        monkeypatch.setattr(foreign, name, lambda: None)
    return found


@pytest.mark.parametrize(
    ("kind", "module"), [(MyCelery, "celery"), (MyDramatiq, "dramatiq"), (MyDjangoQ, "django_q")]
)
def test_a_subclass_of_a_backend_has_its_workers(
    settings: Any, monkeypatch: pytest.MonkeyPatch, kind: type, module: str
) -> None:
    """A project names it by its dotted path, which is its name too."""
    declared: list[str] = []
    monkeypatch.setattr(
        import_module(f"rail_async_tasks.workers.{module}"),
        "declare",
        lambda: declared.append(module),
    )
    path = f"{__name__}.{kind.__name__}"
    settings.RAIL_DJANGO_GRAPHQL = {"task_settings": {"backend": path, "celery_app": "shop.app"}}
    workers.declare()
    assert declared == [module]


@pytest.fixture
def dramatiq_worker(
    settings: Any, monkeypatch: pytest.MonkeyPatch, delivered: SimpleQueue[Any]
) -> Iterator[None]:
    """A Dramatiq worker in this process, with a broker in memory."""
    broker = StubBroker()
    monkeypatch.setattr(dramatiq.broker, "global_broker", broker)
    monkeypatch.setattr(to_dramatiq, "_declare", to_dramatiq._declare)
    monkeypatch.setattr("rail_async_tasks.workers.dramatiq.chain_signals", lambda react: None)
    settings.RAIL_DJANGO_GRAPHQL = {"task_settings": {"backend": "dramatiq"}}
    workers.declare()
    worker = Worker(broker, worker_timeout=100, worker_threads=1)
    worker.start()
    yield
    worker.stop()


def test_a_dramatiq_worker_serves_a_queue_that_is_no_longer_named(
    dramatiq_worker: None, delivered: SimpleQueue[Any]
) -> None:
    """Rows keep their queue when the settings change, and so do retries."""
    dispatch = Dispatch(id=new_id(), name="x.y", queue="renamed", priority=0, number=1)
    DramatiqBackend().push_here([dispatch])
    assert delivered.get(timeout=TIMEOUT) == str(dispatch.id)


def test_packages_of_django_q_name_the_function_of_every_release(
    settings: Any, monkeypatch: pytest.MonkeyPatch, delivered: SimpleQueue[Any]
) -> None:
    """Clusters of the release before and after import it by this path, and run the id."""
    assert EXECUTE == "rail_async_tasks.backends.django_q.execute"
    monkeypatch.setattr(to_django_q, "_run", None)
    settings.RAIL_DJANGO_GRAPHQL = {"task_settings": {"backend": "django_q"}}
    workers.declare()
    for arguments in (("an id",), ("an id", "and more")):
        import_string(EXECUTE)(*arguments)
    assert delivered.get(timeout=TIMEOUT) == "an id"
    assert delivered.get(timeout=TIMEOUT) == (("an id", "and more"), {})


def test_a_package_of_django_q_without_its_backend_is_an_error(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings of this cluster name another backend, so that nothing runs its packages."""
    monkeypatch.setattr(to_django_q, "_run", None)
    settings.RAIL_DJANGO_GRAPHQL = {"task_settings": {"backend": "sync"}}
    with pytest.raises(ConfigurationError, match='backend is "sync"'):
        to_django_q.execute("an id")
