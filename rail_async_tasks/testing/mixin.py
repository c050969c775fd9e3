"""`TaskTestMixin`: the tools for Django's test cases."""

from __future__ import annotations

import unittest
from typing import Any

from rail_async_tasks.testing.isolation import isolated
from rail_async_tasks.testing.tools import RailTasks


class TaskTestMixin:
    """Gives each test `self.tasks`, a `RailTasks`. `class ReportTests(TaskTestMixin, TestCase)`.

    Also for `TransactionTestCase`, `LiveServerTestCase` and coroutine tests. `setUp` has it too.
    """

    tasks: RailTasks

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        bases = cls.__mro__
        if unittest.TestCase in bases and bases.index(unittest.TestCase) < bases.index(
            TaskTestMixin
        ):
            raise TypeError(
                f"{cls.__name__}: name TaskTestMixin before the test case:"
                f" class {cls.__name__}(TaskTestMixin, TestCase)."
            )

    # Not `setUp`, which a test case may write without a call of `super()`. Django has begun the
    # test's transaction by then.
    def run(self, result: unittest.TestResult | None = None) -> unittest.TestResult | None:
        """Runs the test with its tools."""
        with isolated() as self.tasks:
            return super().run(result)  # type: ignore[misc, no-any-return]

    def debug(self) -> None:
        """Runs the test with its tools, and without collecting its errors."""
        with isolated() as self.tasks:
            super().debug()  # type: ignore[misc]
