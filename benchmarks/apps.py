"""The Django app that makes the tasks of the benchmarks known to worker processes."""

from __future__ import annotations

from django.apps import AppConfig


class BenchmarksConfig(AppConfig):
    name = "benchmarks"
