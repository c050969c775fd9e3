"""The app of the suite for authors of backends, under its earlier name: see `testing.backends`."""

from __future__ import annotations

from rail_async_tasks.testing.backends.apps import BackendSuiteConfig


class EarlierName(BackendSuiteConfig):
    """For INSTALLED_APPS that have `"rail_async_tasks.testing"`."""

    name = "rail_async_tasks.testing"

    def ready(self) -> None:
        from rail_async_tasks.testing.backends import tasks  # noqa: F401 - declares the tasks
