"""The place of an error: the innermost frame of the project's own code."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import rail_async_tasks
from rail_async_tasks.rollups.error_places import place_of
from rail_async_tasks.text import format_traceback

OURS = Path(rail_async_tasks.__file__).parent
HERE = "tests/unit/test_error_places.py"


def frames(*files: str) -> str:
    """A traceback through these files, the last one innermost."""
    lines = [f'  File "{it}", line {n}, in f{n}\n    code()\n' for n, it in enumerate(files, 1)]
    return f"Traceback (most recent call last):\n{''.join(lines)}KeyError: 'x'\n"


def raised(call: Any) -> str:
    """The stored traceback of what the call raises."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever it is
        call()
    return format_traceback(caught.value)


def test_the_line_that_called_a_library() -> None:
    """Not the library's own line, nor Python's, which are the same for every caller."""
    place = place_of(raised(lambda: json.loads("{")))
    assert place is not None
    assert place.startswith(f"{HERE}:")
    assert place.endswith(" in <lambda>")


def test_installed_packages_and_this_one_are_no_place() -> None:
    """The frames of the runtime come first in each traceback, a driver's last."""
    own, driver = "/srv/app/shop/tasks.py", "/v/lib/python3/site-packages/redis/client.py"
    text = frames(f"{OURS}/runtime/attempts/body.py", own, driver, "<frozen importlib>")
    assert place_of(text) == f"{own}:2 in f2"
    assert place_of(frames(f"{OURS}/codec/arguments.py")) is None


def test_without_a_frame_of_its_own_the_innermost_one() -> None:
    """A project's tasks may come from an installed package."""
    plugin = "/v/lib/python3/site-packages/plugin/tasks.py"
    assert place_of(frames(f"{OURS}/x.py", plugin)) == f"{plugin}:2 in f2"


@pytest.mark.parametrize("entry", ["", "."])
def test_it_is_the_same_however_the_process_was_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, entry: str
) -> None:
    """`uvicorn` has the working directory in `sys.path` as an empty entry, `manage.py` by name."""
    monkeypatch.chdir(tmp_path)
    for path in ([entry, "/v/bin"], [str(tmp_path), "/v/bin"], [f"{tmp_path}/"]):
        monkeypatch.setattr(sys, "path", path)
        place_of.cache_clear()
        assert place_of(frames(f"{tmp_path}/shop/tasks.py")) == "shop/tasks.py:1 in f1"


def test_it_is_the_same_on_every_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A path is shown from the folder that its module was imported from."""
    for root in ("/srv/one", "/home/two/checkout"):
        monkeypatch.setattr(sys, "path", ["/srv", root, *sys.path])
        assert place_of(frames(f"{root}/shop/tasks.py")) == "shop/tasks.py:1 in f1"


def test_a_chain_and_a_group_have_the_place_of_the_last_error() -> None:
    """The cause comes first in the text; members of a group are behind bars."""

    def inner() -> None:
        raise KeyError("x")

    def outer() -> None:
        try:
            inner()
        except KeyError as error:
            raise ValueError("y") from error

    def group() -> None:
        raise ExceptionGroup("g", [ValueError("z")])

    chain, grouped = place_of(raised(outer)), place_of(raised(group))
    assert chain is not None
    assert chain.endswith("in outer")
    assert grouped is not None
    assert grouped.endswith("in group")


@pytest.mark.parametrize("text", [None, "", "no frames", 'File "x", line y, in z'])
def test_no_frames_no_place(text: str | None) -> None:
    """As after a timeout."""
    assert place_of(text) is None


def test_a_long_place_fits_its_column() -> None:
    """255 bytes."""
    place = place_of(frames(f"/srv/{'d' * 400}/tasks.py"))
    assert place is not None
    assert len(place.encode()) <= 255
