"""The recipe for Sentry of docs/telemetry.md: one event for each failed task, without arguments."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.support.pages import ROOT, read

# Sentry's SDK hooks into logging and Django for good, so it is tried in a process of its own.
PROGRAM = """
import json, os, sys
import django
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "rail_async_tasks"],
    RAIL_DJANGO_GRAPHQL={"task_settings": {
        "track_in_database": False, "backend": sys.argv[1], "retry_delay": 0}},
)
import sentry_sdk
from sentry_sdk.transport import Transport

class Kept(Transport):
    events, texts = [], []
    def capture_envelope(self, envelope):
        self.texts.append(envelope.serialize().decode())
        if (event := envelope.get_event()) is not None:
            self.events.append(event)

init = sentry_sdk.init
ours = {"dsn": "http://k@localhost/1", "transport": Kept}
sentry_sdk.init = lambda **options: init(**options | ours)
exec(sys.stdin.read(), {})
django.setup()
import logging
from rail_async_tasks import Fail, TaskError, task

def declared(kind, name, body):
    async def coroutine(info, card: str): body(info.context.task.attempt, card)
    def plain(info, card: str): body(info.context.task.attempt, card)
    return task(name=name, max_retries=2)(coroutine if kind == "async def" else plain)

def always(attempt, card):
    here = card
    logging.getLogger("shop").warning("about to charge %s", card)
    raise ConnectionError(f"no answer for {card}")
def twice(attempt, card):
    if attempt < 3: raise ConnectionError(card)
def refuse(attempt, card):
    raise Fail("No such card.")

ids = {}
for name, body in (("always", always), ("twice", twice), ("refuse", refuse)):
    for kind in ("async def", "def"):
        with sentry_sdk.isolation_scope():
            sentry_sdk.set_user({"id": "the caller", "card": sys.argv[2]})
            charge = declared(kind, f"{name}.{kind.replace(' ', '_')}", body)
            handle = charge.enqueue(card=sys.argv[2])
        try:
            handle.result(timeout=60)
        except TaskError:
            pass
        ids[handle.snapshot.name] = str(handle.id)
from rail_async_tasks.hosting import process
process.stop()
sentry_sdk.flush()
print(json.dumps({"ids": ids, "events": Kept.events, "text": "".join(Kept.texts)}, default=str))
"""
CARD = "4111-1111-1111"


@pytest.mark.parametrize(
    "backend", ["asyncio", pytest.param("thread", marks=pytest.mark.long), "sync"]
)
def test_a_failed_task_is_one_event(backend: str) -> None:
    """With its id, name, queue and last attempt as tags. A retry is none, nor is an argument."""
    page = read(ROOT / "docs" / "telemetry.md")
    (recipe,) = [it.text for it in page.blocks if it.file == "root/reporting.py"]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, backend, CARD],
        input=recipe, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    events = {it["tags"]["task_name"]: it for it in said["events"]}
    assert len(said["events"]) == len(events) == 4
    for name, attempts in (("always", "3"), ("refuse", "1")):
        for kind in ("async_def", "def"):
            event = events[f"{name}.{kind}"]
            assert event["level"] == "error"
            assert event["tags"]["task_id"] == said["ids"][f"{name}.{kind}"]
            assert event["tags"]["queue"] == "default"
            assert event["tags"]["attempt"] == attempts
            error = event["exception"]["values"][-1]
            assert error["type"] == ("ConnectionError" if name == "always" else "Fail")
            assert error["stacktrace"]["frames"][-1]["function"] == (
                "always" if name == "always" else "refuse"
            )
    assert CARD not in said["text"]
