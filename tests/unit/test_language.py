"""The language that a task carries: which one is stored, and which one is used."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import translation

from rail_async_tasks.language import MAX_LANGUAGE, activate, in_language, language_to_carry


def test_the_active_language_is_carried() -> None:
    """Also one of a region."""
    for language in ("de", "pt-br"):
        with translation.override(language):
            assert language_to_carry() == language


def test_no_other_is_carried(settings: Any) -> None:
    """LANGUAGE_CODE needs no column; a deactivated translation has no language."""
    assert language_to_carry() is None
    with translation.override(settings.LANGUAGE_CODE):
        assert language_to_carry() is None
    with translation.override(None):
        assert language_to_carry() is None
    with translation.override("x" * (MAX_LANGUAGE + 1)):
        assert language_to_carry() is None
    settings.USE_I18N = False
    with translation.override("de"):
        assert language_to_carry() in (None, "de")


@pytest.mark.parametrize(
    ("language", "shown"), [("de", "de"), ("pt-br", "pt-br"), ("tlh", None), ("", None)]
)
def test_a_language_that_is_gone_falls_back(
    settings: Any, language: str, shown: str | None
) -> None:
    """The settings may have changed since the start."""
    settings.LANGUAGES = [("en-us", "English"), ("de", "German"), ("pt-br", "Portuguese")]
    with translation.override("fr"):
        with in_language(language):
            assert translation.get_language() == (shown or settings.LANGUAGE_CODE)
        assert translation.get_language() == "fr"
        activate(language)
        assert translation.get_language() == (shown or "fr")


def test_without_a_language_a_block_runs_in_the_default_one(settings: Any) -> None:
    """Whatever its caller's is."""
    with translation.override("fr"), in_language(None):
        assert translation.get_language() == settings.LANGUAGE_CODE
