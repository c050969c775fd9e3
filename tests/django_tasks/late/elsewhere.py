"""A Django task of another backend, which `.using(backend=...)` hands to ours."""

from __future__ import annotations

from tests.django_tasks.api import task


@task(backend="immediate")
def count(number: int) -> int:
    return number + 3
