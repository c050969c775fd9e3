"""The task of `django_tasks_db`, by itself: it is declared after Django is set up."""

from __future__ import annotations

from django_tasks import task

from benchmarks import counting


@task
def noop() -> None:
    counting.add()
