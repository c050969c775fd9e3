"""The Django app that brings the suite's tasks into the test process and its workers."""

from __future__ import annotations

from django.apps import AppConfig


class BackendSuiteConfig(AppConfig):
    name = "rail_async_tasks.testing.backends"
    label = "rail_async_tasks_testing"
