"""What does the package add to a command, to the first request and to a worker's start?"""

from __future__ import annotations

import resource
import subprocess
import sys

from benchmarks.environment import child_environment
from benchmarks.harness import Case, Metrics, Question

_FIRST_REQUEST = """
import asyncio
from django.utils.module_loading import import_string
from django.conf import settings

QUERY = b'{"query": "{ __typename }"}'
SCOPE = {
    "type": "http", "http_version": "1.1", "method": "POST", "path": "/graphql/",
    "raw_path": b"/graphql/", "query_string": b"", "scheme": "http", "root_path": "",
    "asgi": {"version": "3.0"}, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    "headers": [
        (b"host", b"127.0.0.1"), (b"content-type", b"application/json"),
        (b"content-length", str(len(QUERY)).encode()),
    ],
}


async def main():
    sent, asked, never = [], [], asyncio.Event()

    async def receive():
        if asked:
            await never.wait()
        asked.append(1)
        return {"type": "http.request", "body": QUERY, "more_body": False}

    async def send(message):
        sent.append(message)

    await import_string(settings.ASGI_APPLICATION)(SCOPE, receive, send)
    assert sent[0]["status"] == 200, sent


asyncio.run(main())
"""
_ARQ = """
import django
django.setup()
import strawberry.django
from arq.worker import run_worker
from benchmarks.bare_arq import WorkerSettings
run_worker(WorkerSettings, burst=True)
"""
_PROGRAMS = {
    "check": ("-m", "django", "check"),
    "first request": ("-c", _FIRST_REQUEST),
    "worker": ("-m", "django", "task_worker", "--burst"),
    "bare worker": ("-c", _ARQ),
}


def with_us(count: int, program: str) -> Metrics:
    return _measured(program, "benchmarks.full_settings")


def without_us(count: int, program: str) -> Metrics:
    """Django, Strawberry and Channels; for a worker, arq's own."""
    program = "bare worker" if program == "worker" else program
    return _measured(program, "benchmarks.plain_settings")


def _measured(program: str, settings: str) -> Metrics:
    """The CPU time of one whole process; the harness repeats it."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, *_PROGRAMS[program]],
        env=child_environment({"DJANGO_SETTINGS_MODULE": settings}),
        stdout=sys.stderr,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"CPU ms": seconds * 1e3}


def _case(label: str, program: str, *, quick: bool = False, redis: bool = False) -> Case:
    return Case(
        label=label,
        measure=f"{__name__}:with_us",
        beside=f"{__name__}:without_us",
        parameters={"count": 1, "program": program},
        quick={} if quick else None,
        database="sqlite",
        redis=redis,
        settings={"backend": "arq"} if redis else {},
    )


QUESTION = Question(
    name="startup",
    title="From nothing to a result, in a process of its own",
    beside="the same with Django, Strawberry and Channels alone; the worker: `arq --burst`",
    cases=[
        _case("`manage.py check`", "check", quick=True),
        _case("the first request", "first request"),
        _case("a worker that finds nothing to do", "worker", redis=True),
    ],
    repeats=7,
)
