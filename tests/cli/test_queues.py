"""`tasks queues`, `pause` and `resume`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import override_settings

from rail_async_tasks import queues
from rail_async_tasks.hosting import process as host
from rail_async_tasks.models import TaskExecution
from tests.cli.conftest import Said

pytestmark = [pytest.mark.usefixtures("database"), pytest.mark.turns("database")]

Tasks = Callable[..., Said]
Row = Callable[..., TaskExecution]


def test_queues_and_what_waits_in_them(tasks: Tasks, row: Row) -> None:
    """By priority, also one that only a row names."""
    row(queue="low", age=90)
    row("retrying", queue="low")
    row("running", queue="low")
    row(queue="gone")
    found = {it["name"]: it for it in tasks("queues", "--json").json["results"]}
    assert next(iter(found)) == "high"
    assert {"high", "default", "low", "gone"} <= set(found)
    low = found["low"]
    assert (low["pending"], low["retrying"], low["running"], low["paused"]) == (1, 1, 1, False)
    assert 89 < low["oldest_seconds"] < 150
    lines = tasks("queues").out.splitlines()
    assert lines[0].split()[:4] == ["QUEUE", "STATE", "PENDING", "OLDEST"]
    (line,) = [it for it in lines if it.startswith("low")]
    assert line.split()[:4] == ["low", "open", "1", "1m"]


def test_rates_are_shown(tasks: Tasks) -> None:
    """As the settings have them; a queue without one has a dash."""
    with override_settings(
        RAIL_DJANGO_GRAPHQL={"task_settings": {"queues": {"mail": {"rate": "100/m"}}}}
    ):
        found = {it["name"]: it["rate"] for it in tasks("queues", "--json").json["results"]}
        assert (found["mail"], found["high"]) == ("100/m", None)
        assert {it.rate for it in queues.list() if it.name == "mail"} == {"100/m"}
        head, *lines = tasks("queues").out.splitlines()
    place = head.index("RATE") + len("RATE")
    shown = {line.split()[0]: line[:place].split()[-1] for line in lines}
    assert (shown["mail"], shown["high"], shown["low"]) == ("100/m", "-", "-")


def test_a_queue_is_paused_and_resumed(tasks: Tasks, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the operator's name; twice is no error."""
    monkeypatch.setenv("LOGNAME", "ann")
    assert tasks("pause", "low").out.startswith("low is paused:")
    assert tasks("pause", "low").out == "low is paused already.\n"
    (low,) = [it for it in queues.list() if it.name == "low"]
    assert (low.paused, low.paused_by) == (True, "cli:ann")
    assert "paused" in tasks("queues").out
    assert tasks("resume", "low").out == "low is resumed.\n"
    assert tasks("resume", "low").out == "low is not paused.\n"
    assert not any(it.paused for it in queues.list())
    assert host.hosted() is None


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_an_unknown_queue(tasks: Tasks, verb: str) -> None:
    """Is a usage error that names the known ones, the nearest first."""
    assert "Did you mean 'low'?" in tasks(verb, "lwo").error
    said = tasks(verb, "lwo\x1b[2J")
    assert said.code == 2
    assert "low" in said.error
    assert "\x1b" not in said.error


def test_under_sync_nothing_is_resumed(tasks: Tasks, row: Row) -> None:
    """Its tasks would run in the command."""
    with override_settings(RAIL_DJANGO_GRAPHQL={"task_settings": {"backend": "sync"}}):
        queues.pause("low")
        assert tasks("resume", "low").code == 4
        assert any(it.paused for it in queues.list())
