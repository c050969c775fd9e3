"""Text that comes from anywhere and must fit anywhere."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rail_async_tasks.text import (
    MAX_ERROR_BYTES,
    MAX_TRACEBACK_BYTES,
    clean,
    describe,
    format_traceback,
)
from tests.support import rude


@pytest.mark.parametrize(
    ("text", "max_bytes", "cleaned"),
    [
        ("plain", 10, "plain"),
        ("", 10, ""),
        ("a\0b", 10, "a\ufffdb"),
        ("a\ud800b", 10, "a?b"),
        ("exactly 10", 10, "exactly 10"),
        ("exactly 11!", 10, "exactly…"),
        ("éééééé", 10, "ééé…"),
        ("😀😀😀", 10, "😀…"),
    ],
)
def test_clean(text: str, max_bytes: int, cleaned: str) -> None:
    """NUL and lone surrogates are replaced; a cut is made between characters and shown."""
    assert clean(text, max_bytes) == cleaned


@given(text=st.text(st.characters(codec=None)), max_bytes=st.integers(3, 50))
def test_clean_fits_everywhere(text: str, max_bytes: int) -> None:
    """Always UTF-8, never a NUL, never longer; clean text stays as it is."""
    cleaned = clean(text, max_bytes)
    assert len(cleaned.encode()) <= max_bytes
    assert "\0" not in cleaned
    assert clean(cleaned, max_bytes) == cleaned


class Broken(Exception):
    def __str__(self) -> str:
        raise RuntimeError("broken too")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("no"), "no"),
        (ValueError(), "ValueError"),
        (KeyError("k"), "'k'"),
        (Broken(), "Broken (its __str__ raised)"),
    ],
)
def test_describe(error: BaseException, text: str) -> None:
    """`str(error)`, or the type where that says nothing."""
    assert describe(error) == text


def test_a_description_is_at_most_four_kib() -> None:
    """Whatever an exception carries."""
    assert len(describe(ValueError("é" * 10_000)).encode()) <= MAX_ERROR_BYTES == 4096


def test_a_traceback_names_the_error_and_its_place() -> None:
    """As Python prints it."""
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError as error:
        text = format_traceback(error)
    assert text.startswith("Traceback")
    assert "test_text.py" in text
    assert text.rstrip().endswith("ZeroDivisionError: division by zero")


def test_a_cut_traceback_keeps_its_end() -> None:
    """Where the error is."""
    text = format_traceback(ValueError("é" * 30_000 + " the end"))
    assert len(text.encode()) <= MAX_TRACEBACK_BYTES
    assert text.rstrip().endswith("the end")


def test_a_traceback_that_cant_be_formatted() -> None:
    """Some text, never an error: this runs while another error is being handled."""
    assert format_traceback(Broken())


@pytest.mark.parametrize("error", rude.ERRORS)
@pytest.mark.parametrize("make", [rude.text, rude.string, rude.cause])
def test_an_error_whose_own_code_raises_has_some_text(
    make: Callable[[type[BaseException]], BaseException], error: type[BaseException]
) -> None:
    """Whatever that is: `SystemExit` would end the loop that reads it."""
    for text in (describe(make(error)), format_traceback(make(error))):
        assert type(text) is str
        assert "rude" in text.lower()
