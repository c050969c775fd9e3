"""The program of a process, by its command line."""

from __future__ import annotations

import pytest

from rail_async_tasks.programs import program_of


@pytest.mark.parametrize(
    ("command", "program"),
    [
        ("/v/bin/uvicorn root.asgi:application --port 80", "uvicorn"),
        ("/v/site-packages/uvicorn/__main__.py root.asgi:application", "uvicorn"),
        ("manage.py runserver 8000", "manage.py runserver"),
        ("/srv/manage.py task_worker --queue high", "manage.py task_worker"),
        ("manage.py --settings secret.settings qcluster", "manage.py qcluster"),
        ("/v/bin/celery -A root worker -c 4", "celery worker"),
        ("/v/bin/celery --app root worker", "celery worker"),
        ("/v/bin/gunicorn root.wsgi", "gunicorn"),
        ("/v/bin/dramatiq shop.tasks", "dramatiq"),
        ("/v/django/__main__.py shell", "django-admin shell"),
        ("-c", "python"),
        ("", "python"),
        ("script.py --token=s3cret s3cret", "script.py"),
    ],
)
def test_program(command: str, program: str) -> None:
    """The program and, where that says more, its subcommand. Nothing that could be a secret."""
    assert program_of(command.split()) == program
