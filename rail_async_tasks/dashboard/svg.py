"""Charts as SVG, without a style of their own: classes, which the style sheet colours. Pure.

Every value becomes a number or an escaped text. What a chart shows is in a table beside it too, for
readers who do not see it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

# Of a chart's drawing; the page scales it to its width.
WIDTH: Final = 720
HEIGHT: Final = 160
# Of a sparkline.
SPARK_WIDTH: Final = 144
SPARK_HEIGHT: Final = 28
_GAP: Final = 0.25  # a share of a bar's room


def sparkline(values: Sequence[int], label: str, *, kind: str = "failed") -> SafeString:
    """Returns small bars, one for each value, oldest first."""
    room, top = SPARK_WIDTH / max(len(values), 1), max([*values, 1])
    bars = [
        _bar(number * room, room, 0, value / top * (SPARK_HEIGHT - 1), SPARK_HEIGHT, kind)
        for number, value in enumerate(values)
        if value
    ]
    return format_html(
        '<svg class="spark" viewBox="0 0 {} {}" role="img" aria-label="{}">'
        '<line class="base" x1="0" x2="{}" y1="{}" y2="{}"/>{}</svg>',
        SPARK_WIDTH, SPARK_HEIGHT, label, SPARK_WIDTH, SPARK_HEIGHT - 0.5, SPARK_HEIGHT - 0.5,
        format_html_join("", "{}", ((it,) for it in bars)),
    )  # fmt: skip


def stacked(columns: Sequence[Sequence[int]], kinds: Sequence[str], titles: Sequence[str],
            label: str) -> SafeString:  # fmt: skip
    """Returns bars of several kinds on each other, and a title for each column.

    `columns` has one number per kind, in the order from the ground up.
    """
    top = scale(max((sum(it) for it in columns), default=0))
    room = WIDTH / max(len(columns), 1)
    drawn = []
    for number, (counts, title) in enumerate(zip(columns, titles, strict=True)):
        bars, below = [], 0.0
        for count, kind in zip(counts, kinds, strict=True):
            height = count / top * HEIGHT
            if count:
                bars.append(_bar(number * room, room, below, max(height, 1.0), HEIGHT, kind))
            below += height
        drawn.append(_column(number * room, room, title, bars))
    return _chart(label, drawn)


def lines(
    series: Sequence[Sequence[float | None]],
    kinds: Sequence[str],
    titles: Sequence[str],
    label: str,
) -> SafeString:
    """Returns a line for each series, with a gap where it has no value, and a title per column."""
    top = scale(max((it for values in series for it in values if it is not None), default=0.0))
    room = WIDTH / max(len(titles), 1)
    drawn = [_column(number * room, room, title, []) for number, title in enumerate(titles)]
    for values, kind in zip(series, kinds, strict=True):
        for first, part in _parts(values):
            points = [
                f"{_short((first + number + 0.5) * room)},{_short(HEIGHT - it / top * HEIGHT)}"
                for number, it in enumerate(part)
            ]
            if len(points) == 1:  # a line of one point is not drawn
                x, y = points[0].split(",")
                drawn.append(format_html('<circle class="{}" cx="{}" cy="{}" r="3"/>', kind, x, y))
            else:
                text = " ".join(points)
                drawn.append(format_html('<polyline class="{}" points="{}"/>', kind, text))
    return _chart(label, drawn)


def scale(most: float) -> float:
    """Returns the value at the top of a chart: 1, 2 or 5 times a power of ten, from `most` up."""
    if most <= 0:
        return 1.0
    power = 1.0
    while power < most:
        power *= 10
    while power / 10 >= most:
        power /= 10
    return next(power * it for it in (0.2, 0.5, 1.0) if power * it >= most)


def _parts(values: Sequence[float | None]) -> list[tuple[int, list[float]]]:
    """Returns the runs of values without a gap, each with the number of its first value."""
    parts: list[tuple[int, list[float]]] = []
    before: float | None = None
    for number, value in enumerate(values):
        if value is not None:
            if before is None:
                parts.append((number, []))
            parts[-1][1].append(value)
        before = value
    return parts


def _chart(label: str, drawn: Sequence[SafeString]) -> SafeString:
    return format_html(
        '<svg class="chart" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img"'
        ' aria-label="{}">{}{}</svg>',
        WIDTH,
        HEIGHT,
        label,
        format_html_join(
            "",
            '<line class="grid" x1="0" x2="{}" y1="{}" y2="{}"/>',
            ((WIDTH, _short(HEIGHT * it), _short(HEIGHT * it)) for it in (0.0, 0.5, 1.0)),
        ),
        format_html_join("", "{}", ((it,) for it in drawn)),
    )


def _column(x: float, room: float, title: str, bars: Sequence[SafeString]) -> SafeString:
    return format_html(
        '<g class="column"><title>{}</title><rect class="room" x="{}" y="0" width="{}"'
        ' height="{}"/>{}</g>',
        title, _short(x), _short(room), HEIGHT, format_html_join("", "{}", ((it,) for it in bars)),
    )  # fmt: skip


def _bar(
    x: float, room: float, below: float, height: float, ground: float, kind: str
) -> SafeString:
    return format_html(
        '<rect class="{}" x="{}" y="{}" width="{}" height="{}"/>',
        kind, _short(x + room * _GAP / 2), _short(ground - below - height),
        _short(room * (1 - _GAP)), _short(height),
    )  # fmt: skip


def _short(number: float) -> str:
    return f"{number:.2f}".rstrip("0").rstrip(".") or "0"
