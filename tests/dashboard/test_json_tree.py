"""Results as HTML that folds: what becomes a link, and what stays text."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from rail_async_tasks.dashboard.json_tree import MOST_ITEMS, MOST_NODES, json_tree, link_of


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("https://example.com/report", "link"),
        ("HTTP://example.com:8080/a?b=c#d", "link"),
        ("https://example.com/chart.PNG?w=3", "image"),
        ("https://example.com/report.csv", "file"),
        ("/media/reports/7.csv", "file"),
        ("/media/chart.svg", "image"),
    ],
)
def test_addresses_are_links(text: str, kind: str) -> None:
    """Absolute ones, and files of the project's own."""
    with override_settings(MEDIA_URL="/media/"):
        assert link_of(text) == (text, kind)


@pytest.mark.parametrize(
    "text",
    [
        "javascript:alert(1)", "JaVaScRiPt:alert(1)", " https://example.com", "data:text/html,x",
        "java\nscript:alert(1)", "//evil.example/x.png", "vbscript:x", "https:", "https://",
        "https://exa mple.com", 'https://a"onmouseover=b', "file:///etc/passwd", "/etc/passwd",
        "/media/../\\evil", "https://[::1", "ftp://example.com/x", "https://h:99999/", "",
        "see https://example.com", "https:///path.png", "https://?x.png",
    ],
)  # fmt: skip
def test_other_texts_are_no_links(text: str) -> None:
    """Least of all those that run as script."""
    with override_settings(MEDIA_URL="/media/"):
        assert link_of(text) is None
        assert "href" not in json_tree(text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["<script>", "&"]),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_no_value_makes_markup(value: Any) -> None:
    """Every tag is one of ours, whatever the value is; every attribute too."""
    tags = re.findall(r"<[^>]*>", json_tree(value))
    allowed = re.compile(
        r"</?(details|summary|ul|li|span|code|pre|a)( (class|data-kind|target|rel|href)"
        r'="[^"<>]*"| open)*>'
    )
    assert all(allowed.fullmatch(tag) for tag in tags)


def test_every_piece_of_a_value_is_shown() -> None:
    """Keys and values, those of all types."""
    shown = html.unescape(re.sub(r"<[^>]*>", " ", json_tree({"a<": [1, None, True, 1.5, "t"]})))
    assert shown.split() == ["{", "1", "key", "}", "a<", "[", "5", "items", "]", "0", "1", "1",
                             "null", "2", "true", "3", "1.5", "4", "t"]  # fmt: skip


def test_a_large_value_makes_no_large_page() -> None:
    """The rest is counted; the raw JSON has it."""
    shown = json_tree(list(range(5000)))
    assert f"{5000 - MOST_ITEMS} more in the raw JSON" in shown
    assert json_tree([[1] * 100 for _ in range(100)]).count("<li>") <= MOST_NODES
