"""The benchmarks still run, and the page says what they measured. Their short form: no figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import charts, report
from benchmarks.__main__ import CHARTS, PAGE, QUESTIONS, RESULTS, question
from benchmarks.environment import ROOT
from benchmarks.harness import percentiles, summary

# One of each kind: in one process, a comparison, a server and its clients, a worker over Redis.
KINDS = ("memory_throughput", "peers_bulk", "deliveries", "start_across")
OTHERS = tuple(name for name in QUESTIONS if name not in KINDS)


@pytest.mark.postgres
@pytest.mark.redis
@pytest.mark.parametrize(
    "names",
    [
        pytest.param(KINDS, id="one of each kind"),
        pytest.param(OTHERS, marks=pytest.mark.long, id="the others"),
    ],
)
def test_every_question_is_answered_in_its_short_form(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    """Each case runs both its sides, checks its own rows, and its result is written."""
    command = [sys.executable, "-m", "benchmarks", "--quick", *names, "--results", str(tmp_path)]
    environment = {**os.environ}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for name in names:
        result = json.loads((tmp_path / f"{name}.json").read_text())
        assert result["title"] in done.stdout
        expected = [case.label for case in question(name).cases if case.quick is not None]
        assert [row["label"] for row in result["rows"]] == expected
        medians = [median for row in result["rows"] for median in _medians(row)]
        assert medians
        assert all(median > 0 for median in medians)


def _medians(row: dict[str, Any]) -> list[float]:
    if "sides" in row:
        return [one["median"] for side in row["sides"] for one in side["metrics"].values()]
    keys = ("here", "beside", "ratio")
    return [metric[key]["median"] for metric in row["metrics"].values() for key in keys]


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_question_has_a_short_form(name: str) -> None:
    """At least one case of each question is in CI."""
    assert any(case.quick is not None for case in question(name).cases)


def test_the_page_shows_the_results_that_are_kept() -> None:
    """After a run, `python -m benchmarks --page` puts its tables into docs/performance.md."""
    page = PAGE.read_text()
    assert report.filled_in(page, report.read(RESULTS, QUESTIONS)) == page


def test_the_charts_show_the_results_that_are_kept() -> None:
    """The same command draws them."""
    for result in report.read(RESULTS, QUESTIONS):
        drawn = (CHARTS / f"{result['question']}.svg").read_text()
        assert drawn == charts.drawn(result), result["question"]


def test_a_summary_is_the_median_and_its_quartiles() -> None:
    """One sample is its own median and quartiles."""
    found = summary([5.0, 1.0, 3.0, 2.0, 4.0])
    assert (found["median"], found["low"], found["high"]) == (3.0, 2.0, 4.0)
    assert summary([7.0])["low"] == summary([7.0])["high"] == 7.0


def test_percentiles_are_in_microseconds() -> None:
    """Of 0 to 100 ms, evenly spread, the median is 50 ms and p99 is 99 ms."""
    found = percentiles([number / 1000 for number in range(101)])
    assert found["p50 µs"] == pytest.approx(50_000)
    assert found["p99 µs"] == pytest.approx(99_000)


@pytest.mark.parametrize(
    ("target", "verdict"),
    [
        ({"least": 100, "of_ratio": False}, "≥ 100: met"),
        ({"least": 101, "of_ratio": False}, "≥ 101: missed"),
        ({"least": 0.5, "of_ratio": True}, "≥ 0.5 of it: met"),
        ({"least": 0.6, "of_ratio": True}, "≥ 0.6 of it: missed"),
    ],
)
def test_a_table_says_whether_a_target_was_met(target: dict[str, object], verdict: str) -> None:
    """A target is for the value itself, or for its ratio to what stands beside it."""
    metric = {
        "here": summary([100.0]), "beside": summary([200.0]), "ratio": summary([0.5]),
        "target": target,
    }  # fmt: skip
    row = {"label": "a case", "metrics": {"tasks/s": metric}}
    shown = report.table({"title": "What?", "beside": "that", "rows": [row]})
    assert verdict in shown


def test_a_result_without_a_place_on_the_page_is_an_error() -> None:
    """A question that is new is not silently missing from the page."""
    machine = {"cores": 2, "architecture": "", "system": "", "load at the end": 1.0}
    new = {"question": "new", "title": "", "beside": "", "rows": [], "date": "",
           "machine": machine, "versions": {}}  # fmt: skip
    with pytest.raises(ValueError, match="no place for new"):
        report.filled_in("A page.", [new])
