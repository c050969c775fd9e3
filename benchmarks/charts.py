"""Draws a question's results as an SVG of horizontal bars, from what is kept of them.

Bars are all that is needed, so this is a page of text and no library. The colours are middle tones,
legible on a white page as on a black one: an image in a page can't know which it is on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

FOLDER = Path("images", "performance")  # in docs/

OURS, THEIRS, TEXT, WHISKER = "#2f8f6b", "#8a94a6", "#7a828e", "#b0553a"
WIDTH, LABELS, FIGURES = 800, 300, 110
ROW, BAR, HEAD, GAP = 22, 14, 26, 10
FONT = "font-family='system-ui, sans-serif' font-size='12'"


@dataclass(frozen=True)
class Bar:
    label: str
    median: float
    low: float
    high: float
    ours: bool


@dataclass(frozen=True)
class Group:
    """The bars of one case, which have an axis of their own: other cases may be far longer."""

    label: str
    bars: Sequence[Bar]


def drawn(result: dict[str, Any]) -> str:
    """The SVG of a question's result; "" where it has no rows."""
    metric, groups = _groups(result["rows"])
    if not groups:
        return ""
    height = sum(HEAD + ROW * len(group.bars) + GAP for group in groups)
    parts: list[str] = []
    y = 0
    for group in groups:
        parts.append(_text(0, y + 17, f"{group.label}, {metric}", weight="600"))
        y += HEAD
        scale = (WIDTH - LABELS - FIGURES) / max(max(bar.high, bar.median) for bar in group.bars)
        for bar in group.bars:
            parts.extend(_bar(bar, y, scale))
            y += ROW
        y += GAP
    title = escape(result["title"])
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' role='img'"
        f" width='{WIDTH}' height='{height}' {FONT}>\n<title>{title}</title>\n"
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _groups(rows: Iterable[dict[str, Any]]) -> tuple[str, list[Group]]:
    """The cases that have the first one's metric."""
    found = [one for row in rows if (one := _group(row)) is not None]
    metric = found[0][0] if found else ""
    return metric, [group for name, group in found if name == metric]


def _group(row: dict[str, Any]) -> tuple[str, Group] | None:
    if "sides" not in row:
        metric, values = next(iter(row["metrics"].items()))
        pair = [_summed("here", values["here"], ours=True), _summed("beside it", values["beside"])]
        return metric, Group(row["label"], pair)
    metric = row["metric"]
    bars = [
        _summed(side["label"], side["metrics"][metric], ours=side["peer"] is None)
        for side in row["sides"]
        if metric in side.get("metrics", {})
    ]
    return (metric, Group(row["label"], bars)) if bars else None


def _summed(label: str, summary: dict[str, Any], *, ours: bool = False) -> Bar:
    return Bar(label, summary["median"], summary["low"], summary["high"], ours)


def _bar(bar: Bar, y: int, scale: float) -> Iterable[str]:
    """The label, the bar to the median, a line from quartile to quartile, and the figure."""
    middle = y + ROW / 2
    yield _text(LABELS - 8, middle + 4, bar.label, anchor="end")
    yield (
        f"<rect x='{LABELS}' y='{middle - BAR / 2:g}' width='{max(bar.median * scale, 1):.1f}'"
        f" height='{BAR}' rx='2' fill='{OURS if bar.ours else THEIRS}'/>"
    )
    yield (
        f"<path d='M{LABELS + bar.low * scale:.1f} {middle:g}H{LABELS + bar.high * scale:.1f}'"
        f" stroke='{WHISKER}' stroke-width='2'/>"
    )
    figure = f"{bar.median:,.0f}" if bar.median >= 100 else f"{bar.median:.3g}"
    yield _text(LABELS + max(bar.high, bar.median) * scale + 6, middle + 4, figure)


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "400") -> str:
    return (
        f"<text x='{x:g}' y='{y:g}' text-anchor='{anchor}' font-weight='{weight}'"
        f" fill='{TEXT}'>{escape(text)}</text>"
    )
