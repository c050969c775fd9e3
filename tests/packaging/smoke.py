"""Uses the installed package as a new project would: run by `test_wheel`, outside the checkout.

The environment holds the wheel and its base dependencies, nothing else.
"""

from __future__ import annotations

import sys
import tempfile
from importlib import import_module
from pathlib import Path
from types import ModuleType

import django
from django.conf import settings
from django.core.management import call_command


def configure(folder: Path) -> None:
    """The least that a project has to say; the module itself is its URLs."""
    settings.configure(
        SECRET_KEY="for one run of one process, and long enough to sign with",
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "channels",
            "strawberry_django",
            "rail_async_tasks",
        ],
        DATABASES={
            "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": folder / "db.sqlite3"}
        },
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        USE_TZ=True,
        ROOT_URLCONF="urls",
        RAIL_DJANGO_GRAPHQL={"task_settings": {"backend": "sync"}},
    )
    urls = sys.modules["urls"] = ModuleType("urls")
    django.setup()
    from django.urls import include, path

    urls.urlpatterns = [path("", include("rail_async_tasks.urls"))]


def run_a_task() -> None:
    from rail_async_tasks import task
    from rail_async_tasks.models import TaskExecution

    @task
    def add(left: int, right: int) -> int:
        return left + right

    handle = add.enqueue(left=20, right=22)
    assert handle.result(timeout=5) == 42
    assert TaskExecution.objects.get(id=handle.id).status == "completed"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        configure(Path(folder))
        package = import_module("rail_async_tasks")
        assert Path(package.__file__ or "").is_relative_to(sys.prefix), package.__file__
        for name in package.__all__:
            getattr(package, name)
        call_command("check")
        call_command("migrate", verbosity=0)
        import_module("rail_async_tasks.asgi").get_asgi_application()
        import_module("rail_async_tasks.graphql.schema").get_schema()
        run_a_task()


if __name__ == "__main__":
    main()
