"""A Django task that is not in a `tasks` module."""

from __future__ import annotations

from tests.django_tasks.api import task


@task
def send(number: int) -> int:
    return number + 1


def no_task(number: int) -> int:
    raise AssertionError("A name in a row has called a function that is no task.")


class Sender:
    @staticmethod
    @task
    def send(number: int) -> int:
        return number + 2
