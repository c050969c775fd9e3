"""The pytest plugin. Installing the package loads it, in every project of the environment.

So it imports nothing but pytest; the tools, and with them Django, come with the first test that
asks for them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from rail_async_tasks.testing.tools import RailTasks


class _Fixtures:
    """The fixtures without pytest-django: for Django's test cases, which have a database."""

    @pytest.fixture
    def rail_tasks(self) -> Iterator[RailTasks]:
        """The tasks of this test: `enqueued()`, `run()`, `advance()` and more; none runs by itself.

        It is a `rail_async_tasks.testing.RailTasks`.
        """
        yield from _tools()


class _FixturesWithDatabase:
    """The fixtures with pytest-django, which must see at collection that a test has a database."""

    @pytest.fixture
    def rail_tasks(self, db: None) -> Iterator[RailTasks]:
        """The tasks of this test: `enqueued()`, `run()`, `advance()` and more; none runs by itself.

        It is a `rail_async_tasks.testing.RailTasks`. The test has `db`, or what it asks for itself.
        """
        yield from _tools()


def _tools() -> Iterator[RailTasks]:
    from rail_async_tasks.testing.isolation import isolated

    with isolated() as tools:
        yield tools


def pytest_configure(config: pytest.Config) -> None:
    """Registers the fixtures; every plugin of the environment is known by now."""
    fixtures = _FixturesWithDatabase() if config.pluginmanager.hasplugin("django") else _Fixtures()
    config.pluginmanager.register(fixtures, "rail_async_tasks_fixtures")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Ends a runtime that is left when the last test ends: before its database is dropped."""
    if nextitem is not None or "rail_async_tasks.hosting.process" not in sys.modules:
        return
    from rail_async_tasks.testing.isolation import lives_in_a_test, stop_runtime

    if lives_in_a_test():  # whose fixtures may end it: they come before the session's
        item.session.addfinalizer(stop_runtime)
    else:
        stop_runtime()
