"""The public suite of backends, run as a stranger runs it, over each of ours and one more."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from devservers.redis import RedisServer
from tests.backends.kinds import KINDS, Kind
from tests.support.databases import migrated_copy

ROOT = Path(__file__).parents[2]
SLOTS = 4
PYTEST = (sys.executable, "-m", "pytest", "-q", "-rs")

EARLIER = "rail_async_tasks.testing.contracts"
# The test module of a project that has written, or set up, a backend.
MODULE = """
import json, os, sys
import django

django.setup()

from {module} import BackendContract


class TestBackend(BackendContract):
    command = json.loads(os.environ["SUITE_COMMAND"])
    slots = json.loads(os.environ["SUITE_SLOTS"])
"""

OWN = Kind(
    "tests.backends.shelf.ShelfBackend",
    ("-m", "tests.backends.shelf"),
)
SYNC = Kind("sync")

# What each leaves out, by words of the reason: what it says that it cannot do, or has no meaning.
INLINE = {
    "runs at once": 6,
    "a running body": 2,
    "No broker": 3,
    "This process": 2,
    "concurrency": 1,
}
IN_PROCESS = {"No broker": 3, "This process": 2, "concurrency": 1}
NO_PRIORITIES = {"no priorities in a queue": 1, "concurrency": 1}
FIFO = {"no priorities in a queue": 1, "no priorities of queues": 1, "concurrency": 1}

long = pytest.mark.long
ALL = [
    pytest.param(SYNC, None, INLINE, id="sync", marks=long),
    pytest.param(KINDS["asyncio"], SLOTS, IN_PROCESS, id="asyncio", marks=long),
    pytest.param(KINDS["thread"], SLOTS, IN_PROCESS, id="thread", marks=long),
    pytest.param(KINDS["arq"], SLOTS, {}, id="arq"),
    pytest.param(KINDS["celery"], SLOTS, NO_PRIORITIES, id="celery", marks=long),
    pytest.param(KINDS["dramatiq"], SLOTS, NO_PRIORITIES, id="dramatiq", marks=long),
    pytest.param(KINDS["django_q"], None, FIFO, id="django_q", marks=long),
    pytest.param(OWN, None, FIFO, id="own", marks=long),
]


@pytest.mark.postgres
@pytest.mark.redis
@pytest.mark.parametrize(("kind", "slots", "left_out"), ALL)
def test_the_public_suite(
    kind: Kind,
    slots: int | None,
    left_out: dict[str, int],
    tmp_path: Path,
    postgres_server: Any,
    own_redis: RedisServer,
) -> None:
    """Every test of it passes, or is left out for a reason that the backend gives."""
    url = migrated_copy(postgres_server, "suite_of_a_backend")
    # One of the kinds by the earlier name of the module, which stays.
    module = EARLIER if kind.name == "asyncio" else "rail_async_tasks.testing.backends.contracts"
    (tmp_path / "test_own.py").write_text(MODULE.format(module=module))
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    done = subprocess.run(
        [*PYTEST, *("-p", "no:django", "-p", "no:randomly", "-p", "no:cacheprovider")],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "DJANGO_SETTINGS_MODULE": "tests.backends.suite_settings",
            "TEST_DATABASE": "postgres",
            "TEST_DATABASE_URL": url,
            "BACKENDS_APPS": ",".join(kind.apps),
            "BACKENDS_REDIS": own_redis.url,
            "ACCEPTANCE_TASK_SETTINGS": json.dumps(_settings(kind, own_redis.url, slots)),
            "SUITE_COMMAND": json.dumps(_command(kind)),
            "SUITE_SLOTS": json.dumps(slots),
        },
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    skipped = re.findall(r"^SKIPPED \[(\d+)\] .*?: (.*)$", done.stdout, re.MULTILINE)
    found = {words: sum(int(count) for count, why in skipped if words in why) for words in left_out}
    assert found == left_out, done.stdout
    assert sum(int(count) for count, _ in skipped) == sum(left_out.values()), done.stdout


def _command(kind: Kind) -> list[str]:
    if not kind.worker:
        return []
    return [*kind.argv, *{
        "arq": [f"--concurrency={SLOTS}"],
        "celery": [f"--concurrency={SLOTS}"],
        "dramatiq": [f"--threads={SLOTS}"],
    }.get(kind.name, [])]  # fmt: skip


def _settings(kind: Kind, redis_url: str, slots: int | None) -> dict[str, Any]:
    settings = {
        "backend": kind.name, "lease_seconds": 3, "drain_seconds": 1, "redis_url": redis_url,
        **kind.task_settings,
    }  # fmt: skip
    if slots is not None:
        settings |= {"max_concurrency": slots, "max_workers": slots}
        if kind.name not in ("celery", "dramatiq"):  # it would be an error of the checks
            settings["queues"] = {"contract_narrow": {"concurrency": 2}}
    return settings
