"""Tasks that no server starts: the shell, commands, signals, threads, scripts with a loop.

A process that ends gives its running tasks `drain_seconds`; what it leaves waits for the next.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

from rail_async_tasks.models import TaskExecution, TaskRuntime
from tests.support.forked import ForkedProcess
from tests.support.places import Place
from tests.support.server import ALARMS

ROOT = Path(__file__).parents[2]
LONGEST = 300.0  # seconds for a process to end, on a machine that is busy with others

# PostgreSQL is another way for the rows alone.
pytestmark = pytest.mark.parametrize(
    "place",
    ["sqlite", pytest.param("postgres", marks=[pytest.mark.postgres, pytest.mark.long])],
    indirect=True,
)


def environment(place: Place, task_settings: object) -> dict[str, str]:
    return {
        **os.environ,
        **place.env,
        "DJANGO_SETTINGS_MODULE": "tests.projects.acceptance.settings",
        "ACCEPTANCE_TASK_SETTINGS": json.dumps(task_settings),
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "default",
    }


def ended(code: int, printed: str, errors: str) -> list[str]:
    """The lines that a process has printed, whose end must be a good one."""
    assert code == 0, errors
    assert [line for line in errors.splitlines() if any(it in line for it in ALARMS)] == []
    return printed.split()


def run(place: Place, *argv: str, **task_settings: object) -> list[str]:
    """Starts Python, as a user does, and returns the lines that it printed."""
    done = subprocess.run(
        [sys.executable, *argv], env=environment(place, task_settings), capture_output=True,
        text=True, timeout=LONGEST, check=False,
    )  # fmt: skip
    return ended(done.returncode, done.stdout, done.stderr)


def fork(place: Place, module: str, *argv: str, path: Path = ROOT, **settings: object) -> list[str]:
    """The same of a module, in a process that is forked from one which has the libraries."""
    with tempfile.TemporaryDirectory(prefix="printed-") as name:
        process = ForkedProcess(
            "the script", [module, *argv], Path(name) / "printed",
            env=environment(place, settings), errors=Path(name) / "errors",
            path=[str(path), str(ROOT)],
        )  # fmt: skip
        process.start()
        try:
            code = process.wait(LONGEST)
        finally:
            process.stop()
        return ended(code, process.log.read_text(), process.errors.read_text())


def script(place: Place, source: str, **task_settings: object) -> list[str]:
    head = "import asyncio, threading\nimport django\ndjango.setup()\n"
    head += "from tests.projects.acceptance.tasks import climb, late, linger, nap\n"
    with tempfile.TemporaryDirectory(prefix="script-") as folder:
        (Path(folder) / "script_of_the_test.py").write_text(head + textwrap.dedent(source))
        return fork(place, "script_of_the_test", path=Path(folder), **task_settings)


def rows(ids: list[str]) -> list[TaskExecution]:
    found = TaskExecution.objects.in_bulk(ids)
    return [found[key] for key in sorted(found)]


def states(ids: list[str]) -> list[tuple[str, int]]:
    """Returns the status and attempts that they reached in the process."""
    assert ids
    assert not TaskExecution.objects.filter(status="running").exists()
    assert not TaskRuntime.objects.filter(dead=False).exists()
    return [(row.status, row.attempts) for row in rows(ids)]


@pytest.fixture(autouse=True)
def nothing_is_left(place: Place) -> None:
    """Or another process would run it."""
    TaskExecution.objects.all().delete()


def test_the_shell(place: Place) -> None:
    """A task that runs when the shell ends is run to its end."""
    source = (
        "from tests.projects.acceptance.tasks import climb; print(climb.enqueue(steps=2, pause=.1))"
    )
    run(place, "-m", "django", "shell", "-c", source)
    [row] = TaskExecution.objects.all()
    assert (row.status, row.result) == ("completed", {"steps": 2, "label": ""})
    assert states([str(row.id)]) == [("completed", 1)]


def test_a_command_that_starts_more_than_can_run(place: Place) -> None:
    """A task that has not begun waits in the database; the next process runs it."""
    ids = fork(place, "django", "start_naps", "5", max_workers=1)
    assert states(ids) == [("completed", 1)] + [("pending", 0)] * 4
    fork(place, "django", "shell", "-c", COMPLETE_ALL)
    assert states(ids) == [("completed", 1)] * 5


COMPLETE_ALL = """
import asyncio
from rail_async_tasks.models import TaskExecution
from tests.projects.acceptance.tasks import climb

async def main():
    await (await climb.aenqueue(steps=1, pause=0)).aresult(60)
    while await TaskExecution.objects.exclude(status="completed").aexists():
        await asyncio.sleep(0.05)

asyncio.run(main())
"""


def test_a_body_that_outlasts_the_process(place: Place) -> None:
    """It gets `drain_seconds`, then its task is handed back, at no cost."""
    ids = script(place, "print(linger.enqueue().id)", drain_seconds=0.3)
    assert states(ids) == [("retrying", 1)]
    assert rows(ids)[0].retry_count == 0


def test_threads_are_there_until_the_last_body_has_ended(place: Place) -> None:
    """Threads of Django and of the standard library too: the process ends after the drain."""
    ids = script(place, "print(late.enqueue(seconds=0.5).id)")
    assert states(ids) == [("completed", 1)]
    assert rows(ids)[0].result == 0


def test_a_signal_handler_in_a_transaction(place: Place) -> None:
    """The task is there when the transaction commits, and not when it does not."""
    source = """
        from django.contrib.auth.models import Group
        from django.db import transaction
        from django.db.models.signals import post_save

        def start(sender, instance, **kwargs):
            print(climb.enqueue(steps=1, pause=0, label=instance.name).id)

        post_save.connect(start, sender=Group)
        Group.objects.create(name="plain")
        with transaction.atomic():
            Group.objects.create(name="kept")
        with transaction.atomic():
            Group.objects.create(name="lost")
            transaction.set_rollback(True)
    """
    ids = script(place, source)
    assert len(ids) == 3
    assert states(ids) == [("completed", 1)] * 2
    assert [row.arguments["label"] for row in rows(ids)] == ["plain", "kept"]


def test_a_thread(place: Place) -> None:
    """One runtime for all of them, also when the main thread has ended first."""
    source = r"""
        import sys

        def start():
            threading.main_thread().join()
            sys.stdout.write(f"{climb.enqueue(steps=1, pause=0.1).id}\n")

        for _ in range(3):
            threading.Thread(target=start).start()
    """
    assert states(script(place, source)) == [("completed", 1)] * 3


def test_a_script_with_a_loop_that_waits(place: Place) -> None:
    """Tasks run in the script's own loop."""
    source = """
        async def main():
            handles = [await climb.aenqueue(steps=1, pause=0.05) for _ in range(3)]
            for handle in handles:
                await handle.aresult(60)
                print(handle.id)

        asyncio.run(main())
    """
    assert states(script(place, source)) == [("completed", 1)] * 3


def test_a_script_with_a_loop_that_does_not_wait(place: Place) -> None:
    """The loop ends under its tasks: they are handed back, and what had not begun waits."""
    source = """
        async def main():
            for _ in range(3):
                handle = await linger.aenqueue()
                while (await handle.arefresh()).status != "running":
                    await asyncio.sleep(0.01)
                print(handle.id)
            print((await climb.using(delay=60).aenqueue(steps=1, pause=0)).id)

        asyncio.run(main())
    """
    assert states(script(place, source)) == [("retrying", 1)] * 3 + [("pending", 0)]


def test_a_script_that_leaves_its_loop_open(place: Place) -> None:
    """`run_until_complete()` without `close()`: at the end of the process tasks are handed back."""
    source = """
        async def main():
            handle = await linger.aenqueue()
            while (await handle.arefresh()).status != "running":
                await asyncio.sleep(0.01)
            print(handle.id)

        asyncio.new_event_loop().run_until_complete(main())
    """
    [(status, _)] = states(script(place, source, drain_seconds=20))
    assert status == "retrying"
