"""Comparisons with other task systems: what needs none of them installed."""

from __future__ import annotations

import ast
import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from benchmarks import charts, counting, load, report
from benchmarks.__main__ import QUESTIONS, question
from benchmarks.comparison import Comparison, Side, summed
from benchmarks.environment import ROOT
from benchmarks.peers import environments
from benchmarks.processes import ended, family, running
from benchmarks.sampling import _output
from tests.support.waiting import wait_for

SIDES = {
    side.measure + (side.peer or ""): side
    for name in QUESTIONS
    for case in question(name).cases
    if isinstance(case, Comparison)
    for side in case.sides
}


@pytest.mark.parametrize("side", SIDES.values(), ids=SIDES)
def test_every_side_names_a_function_and_requirements_that_are_there(side: Side) -> None:
    """A peer's module can't be imported here; its text says what it has."""
    module, _, function = side.measure.partition(":")
    source = ROOT.joinpath(*module.split(".")).with_suffix(".py").read_text()
    functions = {
        node.name: {argument.arg for argument in node.args.args}
        for node in ast.parse(source).body
        if isinstance(node, ast.AsyncFunctionDef)
    }
    assert set(side.parameters) <= functions[function]
    if side.peer is not None:
        requirements = environments.REQUIREMENTS / f"{side.peer}.txt"
        lines = [line for line in requirements.read_text().splitlines() if line[:1] != "#"]
        assert lines
        assert all("==" in line for line in lines), "not pinned"


def test_the_count_is_of_all_threads_and_processes() -> None:
    """No increment is lost, and each process has a number of its own, a forked one too."""
    program = (
        "import os; from benchmarks import counting; counting.add(); os.fork()\n"
        "for _ in range(1000): counting.add()"
    )
    with counting.counter() as counter:
        subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
        threads = [threading.Thread(target=_add, args=(1000,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_for(lambda: counter.total() == 6001)
        assert counter.processes() == 3
        assert sorted(counter._numbers[1:4]) == [1000, 1001, 4000]


def _add(count: int) -> None:
    for _ in range(count):
        counting.add()


@pytest.mark.parametrize("kind", ["coroutines", "threads"])
async def test_producers_enqueue_as_many_as_they_are_asked_for(kind: str) -> None:
    """Also where the producers do not divide the tasks."""
    sent: list[int] = []

    async def enqueue() -> None:
        sent.append(1)

    by = load.by_coroutines(enqueue) if kind == "coroutines" else load.by_threads(_into(sent))
    await by(103, 10)
    assert len(sent) == 103


def _into(sent: list[int]) -> Any:
    return lambda: sent.append(1)


async def test_the_time_ends_when_the_store_knows_the_end() -> None:
    """Bodies that have run do not suffice."""
    asked: list[int] = []
    with counting.counter() as counter:

        async def enqueue() -> None:
            counting.add()

        async def finished() -> bool:
            asked.append(counter.total())
            return len(asked) % 3 == 0

        system = load.System(produce=load.by_coroutines(enqueue), finished=finished)
        metrics = await load.end_to_end(system, counter, count=100, producers=5)
    assert asked[-3:] == [asked[-1]] * 3  # all had run; it was asked until it said so
    assert metrics["tasks/s"] < metrics["enqueued/s"]


def test_the_family_of_a_process_is_known_until_it_ends() -> None:
    """A worker's children use its CPU time, too."""
    program = (
        "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'], stdin=sys.stdin)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE) as parent:
        wait_for(lambda: len(family([parent.pid])) == 2)
        assert not ended([parent.pid])
        parent.communicate(b"\n")
    assert ended([parent.pid])


async def test_a_worker_that_ends_at_once_fails_the_sample() -> None:
    """Rather than a wait of a minute for bodies that never run."""

    async def produce(count: int, producers: int) -> None:
        await asyncio.sleep(0)

    with counting.counter() as counter, running(("-c", "pass")) as pids:
        system = load.System(produce=produce, workers=pids)
        with pytest.raises(RuntimeError, match="A worker has ended"):
            await load.end_to_end(system, counter, count=10, producers=1)


def test_the_workers_of_a_sample_that_hangs_end_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else they would compete with every later sample. Its time is over once it has a worker."""
    started = tmp_path / "pid"
    program = (
        "import pathlib, subprocess, sys, time\n"
        "worker = subprocess.Popen(['sleep', '600'])\n"
        "pathlib.Path(sys.argv[1]).write_text(f'{worker.pid}\\n')\n"
        "time.sleep(600)"
    )
    communicate = subprocess.Popen.communicate

    def has_a_worker() -> bool:
        return started.exists() and started.read_text().endswith("\n")

    def late(self: Any, text: str, timeout: float) -> Any:
        wait_for(has_a_worker)
        return communicate(self, text, timeout)

    monkeypatch.setattr(subprocess.Popen, "communicate", late)
    command = [sys.executable, "-c", program, str(started)]
    with pytest.raises(subprocess.TimeoutExpired):
        _output(command, "", {**os.environ}, too_long=0.1)
    wait_for(lambda: ended([int(started.read_text())]))


# --- what is kept and shown ----------------------------------------------------------------------


def _result(*sides: tuple[str, float | None]) -> dict[str, Any]:
    """A result of one comparison: labels and the tasks/s of two samples; None: it failed."""
    case = Comparison(
        label="10 producers",
        sides=[Side(label=name, measure="m:f", peer=name if n else None)
               for n, (name, _) in enumerate(sides)],
        parameters={}, targets={"fast": 3.0},
    )  # fmt: skip
    samples = {name: [{"tasks/s": rate, "CPU µs/task": 1.0}] * 2 for name, rate in sides if rate}
    samples |= {name: [] for name, rate in sides if rate is None}
    failures = {name: "failed" for name, rate in sides if rate is None}
    return {
        "question": "peers_example", "title": "How fast?", "short": "Example", "beside": "others",
        "date": "2026-01-01", "versions": {"Python": "3.11"},
        "machine": {"cores": 2, "architecture": "x", "system": "Linux", "load at the end": 1.0},
        "rows": [summed(case, case.sides, samples, failures)],
    }  # fmt: skip


@pytest.fixture(autouse=True)
def no_environments(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is installed, whatever lies in the checkout."""
    monkeypatch.setattr(environments, "FOLDER", tmp_path)
    environments.versions.cache_clear()


def test_a_table_has_each_side_and_its_ratio() -> None:
    """With the verdict on the target that is about it, and a reason where a side failed."""
    shown = report.table(_result(("ours", 300.0), ("fast", 200.0), ("slow", 50.0), ("none", None)))
    lines = {line.split()[0]: line for line in shown.splitlines() if line}
    assert "1.50 (1.50 .. 1.50); ≥ 3: missed" in lines["fast"]
    assert "6.00" in lines["slow"]
    assert "≥" not in lines["slow"]
    assert "failed" in lines["none"]


def test_the_overview_is_about_the_fastest_other() -> None:
    """It says ahead or behind."""
    ahead = report.overview([_result(("ours", 300.0), ("fast", 200.0), ("slow", 50.0))])
    assert "| fast | 200 tasks/s | 1.50, ahead |" in ahead
    behind = report.overview([_result(("ours", 100.0), ("fast", 200.0), ("none", None))])
    assert "| 0.50, **behind** |" in behind


def test_a_piece_of_a_question_keeps_the_other_sides() -> None:
    """A long question is measured in pieces."""
    old = _result(("ours", 300.0), ("fast", 200.0), ("slow", 50.0))
    new = _result(("ours", 310.0), ("slow", 60.0))
    sides = {
        side["label"]: side["metrics"]["tasks/s"]["median"]
        for side in report.joined(old, new)["rows"][0]["sides"]
    }
    assert sides == {"ours": 310.0, "fast": 200.0, "slow": 60.0}


def test_a_chart_is_an_image_of_the_medians() -> None:
    """The bars' lengths have the medians' proportions, and ours has a colour of its own."""
    drawn = charts.drawn(_result(("ours", 300.0), ("fast & <new>", 150.0), ("none", None)))
    bars = ET.fromstring(drawn).findall("{http://www.w3.org/2000/svg}rect")
    ours, other = (float(bar.attrib["width"]) for bar in bars)
    assert ours == pytest.approx(2 * other, rel=0.01)
    assert [bar.attrib["fill"] for bar in bars] == [charts.OURS, charts.THEIRS]


@pytest.mark.parametrize("page", ["#ffffff", "#0d1117"])
@pytest.mark.parametrize("colour", [charts.TEXT])
def test_text_is_legible_on_light_and_dark_pages(colour: str, page: str) -> None:
    """A contrast of 3.5 at least: an image can't know the theme of its page."""
    low, high = sorted((_luminance(colour), _luminance(page)))
    assert (high + 0.05) / (low + 0.05) >= 3.5


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
